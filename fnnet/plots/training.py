"""Curves of training, histograms of activations, and images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fnnet.plots.look import COLORS, tidy


def training_curves(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Return the cost and, if recorded, the validation accuracy by epoch of one or several runs of ``fnnet.fit``.

    ``histories`` maps the name of a run to its history. Later runs are drawn thinner and dashed above earlier ones, so
    that runs that coincide stay visible.
    """
    if not isinstance(histories, Mapping) or not all(isinstance(history, Mapping) for history in histories.values()):
        raise TypeError(
            'plots.training_curves: expected the histories of runs by name, such as {"adam": result.history}'
        )
    if not histories:
        raise ValueError("plots.training_curves: there are no histories; expected at least one run")
    accuracy = any("validation_accuracy" in history for history in histories.values())
    figure = Figure(figsize=(9 if accuracy else 5, 3.6), layout="constrained")
    axes = figure.subplots(1, 2 if accuracy else 1, squeeze=False)[0]
    for i, (name, history) in enumerate(histories.items()):
        style = {
            "color": COLORS[i % len(COLORS)],
            "linewidth": max(4.5 - 3 * i, 1.2),
            "linestyle": ("-", "--", ":")[min(i, 2)],
        }
        epochs = history["epoch"]
        axes[0].plot(epochs, history["cost"], label=f"{name}, training", **style)
        if "validation_cost" in history:
            axes[0].plot(epochs, history["validation_cost"], label=f"{name}, validation", alpha=0.45, **style)
        if "validation_accuracy" in history:
            axes[1].plot(epochs, history["validation_accuracy"], label=name, **style)
    costs = [value for history in histories.values() for value in history["cost"]]
    scale = "log" if min(costs, default=1) > 0 else "linear"  # a negative log-likelihood may be below 0
    axes[0].set(xlabel="epoch", ylabel="cost", yscale=scale, title="Cost")
    if accuracy:
        axes[1].set(xlabel="epoch", ylabel="accuracy", title="Validation accuracy")
    for ax in axes:
        tidy(ax)
        ax.legend(frameon=False)
    return figure


def activation_histograms(outputs: Mapping[str, Any], bins: int = 60) -> Figure:
    """Return a histogram of the output of each layer, with the fraction of exact zeros (inactive units of a ReLU)."""
    figure = Figure(figsize=(3 * len(outputs), 3), layout="constrained")
    axes = figure.subplots(1, len(outputs), squeeze=False)[0]
    for i, (ax, (name, output)) in enumerate(zip(axes, outputs.items(), strict=True)):
        values = np.asarray(output, np.float64).ravel()
        ax.hist(values, bins=bins, color=COLORS[i % len(COLORS)])
        ax.set(title=name, xlabel="value", yscale="log")
        ax.set_title(f"{np.mean(values == 0):.0%} zeros", loc="right", fontsize=8, color="0.4", y=0.9)
        tidy(ax)
    axes[0].set_ylabel("entries")
    return figure


def image_grid(images: Any, titles: Sequence[str], columns: int = 8, most: int = 32) -> Figure:
    """Return the first ``most`` grey images of ``(N, height, width)``, dark on light, each under its title."""
    count = min(len(images), most)
    rows = max(1, math.ceil(count / columns))
    columns = max(1, math.ceil(count / rows))  # rows of equal length, if possible
    figure = Figure(figsize=(1.25 * columns, 1.5 * rows + 0.2), layout="constrained")
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for ax in axes:
        ax.set_axis_off()
    for ax, image, title in zip(axes, np.asarray(images), titles[:count], strict=False):
        ax.imshow(image, cmap="gray_r", interpolation="nearest")
        ax.set_title(title, fontsize=9)
    return figure


def filter_grid(filters: Any, columns: int = 10) -> Figure:
    """Return kernels ``(F, height, width)`` on one scale: negative entries orange, 0 white, positive violet."""
    filters = np.asarray(filters, np.float64)
    rows = max(1, math.ceil(len(filters) / columns))
    columns = max(1, math.ceil(len(filters) / rows))
    figure = Figure(figsize=(0.8 * columns + 0.8, 0.8 * rows + 0.2), layout="constrained")
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    most = np.abs(filters).max(initial=0) or 1
    for ax in axes:
        ax.set_axis_off()
    for ax, kernel in zip(axes, filters, strict=False):
        shown = ax.imshow(kernel, cmap="PuOr", vmin=-most, vmax=most, interpolation="nearest")
    figure.colorbar(shown, ax=list(axes), label="entry", aspect=30)
    return figure
