"""Show what a convolution does: its feature maps, its matrix, its singular values, and learned kernels.

The experiment draws feature maps of kernels that people designed and of kernels that a network learned on
scikit-learn's digits, the Toeplitz matrix of a small convolution, and the singular values of convolutions with zero
padding and with circular padding (by the Fourier transform). Three ways to compute a convolution (sliding, im2col and
Toeplitz) are compared in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

import fnnet
from experiments import data
from experiments.results import Results, console
from fnnet import plots
from fnnet.convolution import circular_singular_values, col2im, convolve, im2col, singular_values, toeplitz

Array = np.ndarray[Any, Any]

KERNELS: dict[str, list[list[float]]] = {
    "mean": [[1 / 9] * 3] * 3,
    "left edges": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],  # Sobel and Feldman 1968
    "upper edges": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "outlines": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],  # the Laplacian's difference quotient
}


@dataclass(frozen=True)
class Config:
    digit: int = 8
    """Class of the digit that is drawn: the first training digit of this class."""
    filters: int = 8
    """Number of filters of the network's first layer."""
    epochs: int = 30
    """Passes over the training digits."""
    seed: int = 0
    """Seed of the network's parameters and of the order of the digits."""
    runs: Path = Path("runs")
    """Folder for the results."""


def run(config: Config) -> None:
    split = data.digits()
    results = Results("convolution", config, config.runs)
    (x, y), (test_x, test_y) = ((images[..., None], labels) for images, labels in split)
    digit = x[np.flatnonzero(y == config.digit)[0]]

    written = np.stack([np.array(kernel, np.float32) for kernel in KERNELS.values()], -1)[:, :, None]
    results.figure("operation", operation(digit, written, list(KERNELS)))

    model = fnnet.sequential(
        fnnet.Conv(config.filters, 3), fnnet.relu, fnnet.MaxPool(2), fnnet.Flatten(), fnnet.Dense(10)
    )
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
    init_key, key = jax.random.split(jax.random.key(config.seed))
    fitted = fnnet.fit(
        cost,
        fnnet.optimizers.adam(3e-3),
        model.init(init_key, x),
        (x, y),
        key=key,
        epochs=config.epochs,
        validation=(test_x, test_y),
        metrics={"accuracy": fnnet.accuracy},
    )
    learned = np.asarray(fitted.state.params[0]["w"])
    results.figure("learned", operation(digit, learned, [f"filter {i}" for i in range(config.filters)]))

    table, worst = agreement(np.random.default_rng(config.seed))
    console.print(table)
    small = np.arange(1.0, 10).reshape(3, 3, 1, 1)
    results.figure("toeplitz", matrix(small, (6, 6)))
    results.figure("singular_values", spectrum(written))
    accuracy = fitted.history["validation_accuracy"][-1]
    line = f"test accuracy of the small network: {accuracy:.4f}; the ways to convolve differ by at most {worst:.1e}"
    console.print(line, highlight=False)
    results.record(accuracy=accuracy, worst_difference=worst)
    results.summary(line)


def operation(digit: Array, kernels: Array, names: list[str]) -> Figure:
    """Draw the input and each of the ``F`` kernels ``(3, 3, 1, F)`` above its feature map."""
    maps = np.asarray(convolve(digit[None], kernels, padding="SAME"))[0]
    count = kernels.shape[-1]
    figure = Figure(figsize=(1.35 * (count + 1), 3.3), layout="constrained")
    axes = figure.subplots(2, count + 1)
    for ax in axes.ravel():
        ax.set(xticks=[], yticks=[])
    axes[0, 0].set_axis_off()
    axes[1, 0].imshow(digit[..., 0], cmap="gray_r")
    axes[1, 0].set_title("input", fontsize=10)
    for i, name in enumerate(names):
        for ax, image in ((axes[0, i + 1], kernels[:, :, 0, i]), (axes[1, i + 1], maps[..., i])):
            most = np.abs(image).max()
            shown = ax.imshow(image, cmap="PuOr", vmin=-most, vmax=most)
        axes[0, i + 1].set_title(name, fontsize=10)
    axes[0, 1].set_ylabel("kernel", fontsize=10)
    axes[1, 1].set_ylabel("feature map", fontsize=10)
    bar = figure.colorbar(shown, ax=axes, ticks=[-most, 0, most], shrink=0.8, aspect=30)
    bar.ax.set_yticklabels(["−", "0", "+"])
    return figure


def matrix(kernel: Array, image_shape: tuple[int, int]) -> Figure:
    """Draw a kernel ``(A, A, 1, 1)`` and its Toeplitz matrix, with one colour for each entry of the kernel."""
    t = np.asarray(toeplitz(kernel, (*image_shape, 1)))
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 4])
    colours = {"cmap": "viridis", "vmin": 1, "vmax": kernel.max()}
    left.imshow(kernel[:, :, 0, 0], **colours)
    for (row, column), tap in np.ndenumerate(kernel[:, :, 0, 0]):
        left.text(column, row, f"{tap:.0f}", ha="center", va="center", color="w" if tap < 6 else "k")
    left.set(title="kernel", xticks=[], yticks=[])
    right.imshow(np.where(t == 0, np.nan, t), **colours)
    rows, columns = t.shape
    right.set(
        title=f"the same as a matrix, {rows} × {columns}: T x = y",
        xlabel=f"pixel of the {image_shape[0]} × {image_shape[1]} image",
        ylabel="pixel of the output",
    )
    return figure


def spectrum(kernels: Array, side: int = 16) -> Figure:
    """Draw the singular values of the designed kernels, with circular padding and with zero padding."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    for i, name in enumerate(KERNELS):
        if name == "upper edges":
            continue  # the transpose of "left edges", with the same singular values
        kernel = kernels[..., i : i + 1]
        circular = circular_singular_values(kernel, (side, side, 1))
        padded = singular_values(kernel, (side, side, 1), padding="SAME")
        ax.plot(circular, color=plots.COLORS[i], label=f"{name}, circular")
        ax.plot(padded, color=plots.COLORS[i], linestyle="--", label=f"{name}, zero padding")
    ax.set(xlabel=f"index, of {side * side}", ylabel="singular value", title=f"Gain of 3 × 3 kernels, {side} × {side}")
    plots.tidy(ax)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def agreement(generator: np.random.Generator) -> tuple[Table, float]:
    """Compare sliding, im2col and Toeplitz on random numbers in float64, forward and for dx.

    Return the table of differences and the largest of them.
    """
    with jax.enable_x64(True):
        x, w = generator.standard_normal((2, 7, 6, 3)), generator.standard_normal((3, 2, 3, 4))
        t = toeplitz(w, (7, 6, 3))
        y, pullback = jax.vjp(lambda x: convolve(x, w), jnp.asarray(x))
        dy = generator.standard_normal(y.shape)
        flat = dy.reshape(2, -1)
        differences = {
            "im2col(x) w = conv(x)": im2col(x, (3, 2)) @ w.reshape(-1, 4) - y,
            "T x = conv(x)": x.reshape(2, -1) @ t.T - y.reshape(2, -1),
            "Tᵀ dy = dx": flat @ t - pullback(jnp.asarray(dy))[0].reshape(2, -1),
            "col2im(dy wᵀ) = dx": col2im(dy @ w.reshape(-1, 4).T, (7, 6), (3, 2)) - pullback(jnp.asarray(dy))[0],
        }
    table = Table("identity", "largest difference")
    sizes = {name: float(np.abs(difference).max()) for name, difference in differences.items()}
    for name, size in sizes.items():
        table.add_row(name, f"{size:.1e}")
    return table, max(sizes.values())
