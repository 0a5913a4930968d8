"""Train 64 networks on real digits in one program, and show how the accuracy depends on rate and seed.

A multilayer perceptron 64-32-10 is trained by Adam at eight learning rates with eight seeds each. A seed determines
the initial weights and the order of the digits; the same eight seeds are used at every rate.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import fnnet
from experiments import data
from experiments.results import Results, console
from experiments.tables import markdown_table, rich_table
from fnnet.plots.look import COLORS, SMALL, WIDTH, tidy

COLUMNS = ("learning rate", "test accuracy, mean ± standard deviation", "lowest", "highest", "training cost")


@dataclass(frozen=True)
class Config:
    lowest_rate: float = 3e-5
    """Lowest learning rate."""
    highest_rate: float = 1.0
    """Highest learning rate; the others are spaced at equal ratios between the two."""
    rates: int = 8
    """Number of learning rates."""
    seeds: int = 8
    """Number of networks at each learning rate."""
    hidden: int = 32
    """Number of hidden neurons."""
    epochs: int = 20
    """Passes over the training digits."""
    batch_size: int = 32
    """Digits per update."""
    seed: int = 0
    """Seed of everything random."""
    cpu_devices: int = os.cpu_count() or 1
    """Number of devices that JAX splits a CPU into."""
    runs: Path = Path("runs")
    """Folder for the results."""


def run(config: Config) -> None:
    split_cpu(config.cpu_devices)
    results = Results("sweep", config, config.runs)
    split = data.digits()
    model = fnnet.sequential(fnnet.Flatten(), fnnet.Dense(config.hidden), fnnet.relu, fnnet.Dense(10))
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
    rates = np.geomspace(config.lowest_rate, config.highest_rate, config.rates)
    swept = fnnet.sweep(
        lambda learning_rate: (cost, fnnet.optimizers.adam(learning_rate)),
        fnnet.grid(learning_rate=rates, seed=range(config.seeds)),
        split.train,
        key=jax.random.key(config.seed),
        epochs=config.epochs,
        batch_size=config.batch_size,
        validation=split.test,
        metrics={"accuracy": fnnet.accuracy},
    )
    networks = config.rates * config.seeds
    console.print(
        f"{networks} networks 64-{config.hidden}-10, {config.epochs} epochs of {len(split.train[0])} digits, on "
        f"{len(jax.devices())} devices: {swept.seconds:.2f} s, compiled in {swept.compile_seconds:.2f} s"
    )
    shape = (config.rates, config.seeds, config.epochs)
    history = {name: np.asarray(values, np.float64).reshape(shape) for name, values in swept.history.items()}
    for i, rate in enumerate(rates):
        for seed in range(config.seeds):
            last = {name: float(values[i, seed, -1]) for name, values in history.items()}
            results.record(learning_rate=float(rate), seed=seed, **last)
    accuracy = history["validation_accuracy"]
    rows = [row_of(*row) for row in zip(rates, accuracy[..., -1], history["cost"][..., -1], strict=True)]
    console.print(rich_table(COLUMNS, rows))
    results.figure("accuracy", draw(rates, accuracy))
    results.summary(f"{networks} networks in {swept.seconds:.2f} s.\n\n{markdown_table(COLUMNS, rows)}")


def split_cpu(devices: int) -> None:
    """Make each core of a CPU a device, so that small networks, which cannot fill all cores, run side by side.

    This has no effect if JAX has started already, and none on an accelerator.
    """
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", devices)


def row_of(rate: float, accuracy: Any, cost: Any) -> list[str]:
    """Return the table row of the networks at one rate, after the last epoch."""
    spread = f"{accuracy.mean():.3f} ± {accuracy.std(ddof=min(1, len(accuracy) - 1)):.3f}"
    return [f"{rate:.2g}", spread, f"{accuracy.min():.3f}", f"{accuracy.max():.3f}", f"{cost.mean():.3g}"]


def draw(rates: Any, accuracy: Any) -> Figure:
    """Draw accuracies ``(rates, seeds, epochs)``: a dot for each network's last one, and the means by epoch."""
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    last = accuracy[..., -1]
    middle, deviation = last.mean(1), last.std(1, ddof=min(1, last.shape[1] - 1))
    band = (middle - deviation, np.minimum(middle + deviation, 1))
    left.fill_between(rates, *band, color=COLORS[0], alpha=0.2, linewidth=0, label="± standard deviation")
    left.plot(rates, middle, color=COLORS[0], label="mean over seeds")
    spots = rates[:, None] * np.linspace(0.9, 1.1, last.shape[1])  # seeds side by side, so that they do not overlap
    left.plot(spots.ravel(), last.ravel(), ".", color="black", markersize=3.5, label="a network")
    left.set(xscale="log", xlabel="learning rate", ylabel="test accuracy", title="After the last epoch", ylim=(0, 1.02))
    left.legend(frameon=False, fontsize=SMALL, loc="lower center")
    epochs = np.arange(1, accuracy.shape[2] + 1)
    colors = matplotlib_colors(len(rates))
    for rate, values, color in zip(rates, accuracy, colors, strict=True):
        right.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
        right.plot(epochs, values.mean(0), color=color, label=f"{rate:.2g}")
    right.set(xlabel="epoch", title="By epoch: mean and range")
    right.legend(title="learning rate", frameon=False, fontsize=SMALL, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for ax in (left, right):
        tidy(ax)
    return figure


def matplotlib_colors(count: int) -> Any:
    """Return ``count`` colors from dark to light."""
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0, 0.9, count))
