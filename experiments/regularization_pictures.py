"""The pictures of the experiment ``regularization``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fnnet.plots import COLORS, tidy

WIDTH = 9  # inches; letters of 10 points look like 9 points on a page of 800 pixels


def curves(costs: Mapping[str, Mapping[str, Any]], accuracies: Mapping[str, Any], stops: Any) -> Figure:
    """Return the training and validation costs by epoch, a panel for each method, and the test accuracies.

    ``costs[method][which]`` is ``(seeds, epochs)`` and ``accuracies[method]`` is ``(seeds,)``. ``stops`` are the epochs
    of the lowest validation cost of ``"none"``, which are marked in its panel. The other panels repeat that cost.
    """
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
    axes = figure.subplots(2, 3)
    last, panels = (
        axes[1, 0],
        [*axes[0], *axes[1, 1:]],
    )  # the left column has room for long labels
    unregularized = np.asarray(costs["none"]["validation"], np.float64)
    highest = 2.5 * float(unregularized.mean(0).min())
    epochs = np.arange(1, unregularized.shape[1] + 1)
    for ax, (name, both) in zip(panels, costs.items(), strict=True):
        handles = [draw_mean(ax, epochs, both[which], which, k) for k, which in enumerate(("training", "validation"))]
        style = {"color": "black", "linewidth": 1.2, "label": "validation, none"}
        handles += ax.plot(epochs, unregularized.mean(0), ":", **style)
        ax.set(title=name, ylim=(0, highest), xscale="log")
        tidy(ax)
    for ax in (axes[0, 0], axes[1, 1]):
        ax.set_ylabel("cost without penalty")
    for ax in (axes[0, 1], axes[0, 2], axes[1, 2]):
        ax.tick_params(labelleft=False)
    for ax in axes[1, 1:]:
        ax.set_xlabel("epoch")
    lowest = unregularized[np.arange(len(stops)), np.asarray(stops) - 1]
    style = {"color": "black", "markerfacecolor": "white", "zorder": 4, "label": "early stopping, each sample"}
    handles += panels[0].plot(stops, lowest, "D", markersize=5, **style)
    draw_accuracies(last, accuracies)
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    return figure


def draw_mean(ax: Axes, epochs: Any, values: Any, label: str, k: int) -> Any:
    """Draw the mean over the first axis and the standard deviation around it, and return the line."""
    values = np.asarray(values, np.float64)
    mean, deviation = values.mean(0), values.std(0, ddof=min(1, len(values) - 1))
    ax.fill_between(epochs, mean - deviation, mean + deviation, color=COLORS[k], alpha=0.2, linewidth=0)
    return ax.plot(epochs, mean, ("--", "-")[k], color=COLORS[k], linewidth=1.8, label=label)[0]


def draw_accuracies(ax: Axes, accuracies: Mapping[str, Any]) -> None:
    """Draw a row for each method: a dot for each seed, the mean and the standard deviation."""
    for row, values in enumerate(accuracies.values()):
        values = np.asarray(values, np.float64)
        ax.plot(values, np.full(len(values), row), "o", color=COLORS[5], markersize=3.5)
        deviation = values.std(ddof=min(1, len(values) - 1))
        ax.errorbar(values.mean(), row - 0.25, xerr=deviation, fmt="s", color="black", markersize=4, capsize=3)
    ax.set_yticks(range(len(accuracies)), list(accuracies))
    ax.invert_yaxis()
    ax.set(title="test", xlabel="accuracy, each sample and mean")
    ax.locator_params(axis="x", nbins=4)
    tidy(ax)


def histograms(weights: Mapping[str, Any]) -> Figure:
    """Return the weights of every method on a log scale, with 0 in the middle of a bin, and the fraction of zeros."""
    columns = -(-len(weights) // 2)
    figure = Figure(figsize=(WIDTH, 5), layout="constrained")
    axes = figure.subplots(2, columns, sharex=True, sharey=True, squeeze=False)
    bins = 81  # an odd number, so that 0 is in the middle of a bin
    widest = max(float(np.abs(values).max()) for values in weights.values())
    for i, (ax, (name, values)) in enumerate(zip(axes.flat, weights.items(), strict=False)):
        values = np.asarray(values).ravel()
        zeros = values == 0
        edges = np.linspace(-widest, widest, bins + 1)
        ax.hist([values[~zeros], values[zeros]], edges, stacked=True, color=[COLORS[0], COLORS[1]])
        ax.set(title=f"{name}\n{zeros.mean():.1%} exactly 0", yscale="log")
        if i >= columns:
            ax.set_xlabel("weight")
        if i % columns == 0:
            ax.set_ylabel("weights")
        tidy(ax)
    return figure
