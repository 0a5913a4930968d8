"""The pictures of the experiment ``regularization``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fnnet.plots import COLORS, tidy

WIDTH = 9  # inches: letters of 10 points are of 9 on a page 800 pixels wide


def curves(costs: Mapping[str, Mapping[str, Any]], accuracies: Mapping[str, Any], stops: Any) -> Figure:
    """The training and validation costs by epoch, a panel for each method, and every method's test accuracies.

    ``costs[method][which]`` is ``(seeds, epochs)``, ``accuracies[method]`` is ``(seeds,)``; ``stops`` are the epochs of
    the lowest validation cost without regularization, marked in the first panel.
    """
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
    axes = figure.subplots(2, -(-(len(costs) + 1) // 2))
    panels = list(axes.flat)
    handles: list[Any] = []
    for i, (ax, (name, both)) in enumerate(zip(panels, costs.items(), strict=False)):
        handles = [draw_band(ax, both[which], which, k) for k, which in enumerate(("training", "validation"))]
        ax.set(title=name, yscale="log", ylim=limits(costs), xlabel="epoch" if i >= axes.shape[1] else "")
        if i % axes.shape[1] == 0:
            ax.set_ylabel("cost without penalty")
        else:
            ax.tick_params(labelleft=False)
        tidy(ax)
    lowest = np.asarray([curve[stop - 1] for curve, stop in zip(costs["none"]["validation"], stops, strict=True)])
    style = {"color": "black", "markerfacecolor": "white", "zorder": 4, "label": "early stopping"}
    handles += panels[0].plot(stops, lowest, "D", markersize=5, **style)
    draw_accuracies(panels[len(costs)], accuracies)
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


def limits(costs: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    values = [np.asarray(curve) for both in costs.values() for curve in both.values()]
    return 0.8 * min(v.mean(0).min() for v in values), 1.3 * max(v.mean(0).max() for v in values)


def draw_band(ax: Axes, values: Any, label: str, k: int) -> Any:
    """The mean over the first axis, and a standard deviation around it."""
    values = np.asarray(values, np.float64)
    epochs = np.arange(1, values.shape[1] + 1)
    mean, deviation = values.mean(0), values.std(0, ddof=min(1, len(values) - 1))
    low = np.maximum(mean - deviation, values.min(0))  # above 0: the axis is logarithmic
    ax.fill_between(epochs, low, mean + deviation, color=COLORS[k], alpha=0.2, linewidth=0)
    return ax.plot(epochs, mean, ("--", "-")[k], color=COLORS[k], linewidth=1.8, label=f"{label} (mean ± deviation)")[0]


def draw_accuracies(ax: Axes, accuracies: Mapping[str, Any]) -> None:
    """A row for each method: a dot for each seed, the mean and the standard deviation."""
    for row, values in enumerate(accuracies.values()):
        values = np.asarray(values, np.float64)
        ax.plot(values, np.full(len(values), row), "o", color=COLORS[5], markersize=4, alpha=0.8)
        deviation = values.std(ddof=min(1, len(values) - 1))
        ax.errorbar(values.mean(), row - 0.25, xerr=deviation, fmt="s", color="black", markersize=4, capsize=3)
    ax.set_yticks(range(len(accuracies)), list(accuracies))
    ax.invert_yaxis()
    ax.set(title="test", xlabel="accuracy")
    ax.locator_params(axis="x", nbins=4)
    tidy(ax)


def histograms(weights: Mapping[str, Any], bins: int = 81) -> Figure:
    """The weights of every method on a log scale, zero in the middle of a bin, with the share that is exactly 0."""
    columns = -(-len(weights) // 2)
    figure = Figure(figsize=(WIDTH, 5), layout="constrained")
    axes = figure.subplots(2, columns, sharex=True, sharey=True, squeeze=False)
    widest = max(float(np.abs(values).max()) for values in weights.values())
    for i, (ax, (name, values)) in enumerate(zip(axes.flat, weights.items(), strict=False)):
        values = np.asarray(values).ravel()
        zeros = values == 0
        edges = np.linspace(-widest, widest, bins + 1 - bins % 2 + 1)
        ax.hist([values[~zeros], values[zeros]], edges, stacked=True, color=[COLORS[0], COLORS[1]])
        ax.set(title=f"{name}\n{zeros.mean():.1%} exactly 0", yscale="log")
        if i >= columns:
            ax.set_xlabel("weight")
        if i % columns == 0:
            ax.set_ylabel("weights")
        tidy(ax)
    return figure
