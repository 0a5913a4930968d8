"""Pictures of training, with matplotlib (the extra ``experiments``).

Each function returns a ``Figure`` to save or show. Colours are those of Okabe and Ito, told apart also by the
colour-blind. No global state of pyplot is touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D")
WIDTH = 8.0  # inches: at 800 pixels a letter of 9 points is 12 pixels high
SMALL = 9  # points
PATH_WIDTHS = (2.4, 1.5, 0.9, 0.9)  # later ones thinner, over the earlier

Lines = Mapping[str, tuple[Any, Any]]  # by name, x and y


def training_curves(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Cost and, where there is one, validation accuracy by epoch of one or several runs of ``fnnet.fit``.

    ``histories`` maps a run's name to its history. Runs that coincide stay visible: later ones are drawn thinner and
    dashed over the earlier.
    """
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
    scale = "log" if min(costs, default=1) > 0 else "linear"  # negative log-likelihoods may be negative
    axes[0].set(xlabel="epoch", ylabel="cost", yscale=scale, title="Cost")
    if accuracy:
        axes[1].set(xlabel="epoch", ylabel="accuracy", title="Validation accuracy")
    for ax in axes:
        tidy(ax)
        ax.legend(frameon=False)
    return figure


def activation_histograms(outputs: Mapping[str, Any], bins: int = 60) -> Figure:
    """A histogram of each layer's output, with the share of exact zeros (for ReLU: entries that are switched off)."""
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
    """Grey images ``(N, height, width)`` in rows, dark on light, each under its title; the first ``most`` of them."""
    count = min(len(images), most)
    rows = max(1, math.ceil(count / columns))
    columns = max(1, math.ceil(count / rows))  # rows of equal length where they can be
    figure = Figure(figsize=(1.25 * columns, 1.5 * rows + 0.2), layout="constrained")
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for ax in axes:
        ax.set_axis_off()
    for ax, image, title in zip(axes, np.asarray(images), titles[:count], strict=False):
        ax.imshow(image, cmap="gray_r", interpolation="nearest")
        ax.set_title(title, fontsize=9)
    return figure


def line_panels(
    groups: Mapping[str, Lines],
    *,
    xlabel: str,
    ylabel: str,
    xscale: str = "linear",
    yscale: str = "linear",
    ylim: tuple[float | None, float | None] = (None, None),
    columns: int = 3,
    markers: bool = False,
) -> Figure:
    """Many lines as small multiples: a panel for each group, the lines of all others in grey behind.

    ``groups`` maps a panel's title to its lines, ``{name: (x, y)}``. All panels share their axes.
    """
    figure, axes = panels(len(groups), columns, height=2.3)
    every = [line for lines in groups.values() for line in lines.values()]
    for ax, (title, lines) in zip(axes, groups.items(), strict=True):
        for x, y in every:
            ax.plot(x, y, color="0.85", linewidth=0.8, zorder=1)
        for i, (name, (x, y)) in enumerate(lines.items()):
            ax.plot(x, y, label=name, markersize=3, **style(i, markers))
        ax.set(xscale=xscale, yscale=yscale, ylim=ylim)
        tidy(ax)
        legend_above(ax, title)
    figure.supxlabel(xlabel, fontsize=SMALL + 1)
    figure.supylabel(ylabel, fontsize=SMALL + 1)
    return figure


def descent_paths(
    x: Any,
    y: Any,
    values: Any,
    groups: Mapping[str, Mapping[str, Any]],
    *,
    minima: Sequence[tuple[float, float]] = (),
    labels: tuple[str, str] = ("x", "y"),
    title: str = "",
    columns: int = 3,
    levels: int = 12,
) -> Figure:
    """Paths over the contours of a function of two variables, a panel for each group of paths.

    ``values`` of shape ``(len(y), len(x))`` are the function less its minimum: the levels are evenly spaced in their
    logarithm. ``groups`` maps a panel's title to its paths, ``{name: (T, 2)}``; points that are not finite are left
    out. A ring marks the start, a star a minimum, dots the first steps and a framed one the last; where paths coincide
    all stay visible.
    """
    figure, axes = panels(len(groups), columns, height=2.5)
    values = np.asarray(values)
    heights = np.geomspace(max(values[values > 0].min(), values.max() * 1e-5), values.max(), levels)
    values = np.maximum(values, heights[0] / 2)  # a minimum on the grid has no logarithm
    for ax, (group, paths) in zip(axes, groups.items(), strict=True):
        ax.contour(x, y, values, levels=heights, norm=LogNorm(heights[0], heights[-1]), cmap="Greys_r", linewidths=0.6)
        for i, (name, path) in enumerate(paths.items()):
            points = np.where(np.isfinite(path), path, np.nan)
            look = style(i, markers=True) | {"linewidth": PATH_WIDTHS[min(i, len(PATH_WIDTHS) - 1)]}
            ax.plot(points[:, 0], points[:, 1], label=name, markersize=2.5, markevery=slice(0, 25), **look)
            last = points[np.flatnonzero(np.isfinite(points).all(1))[-1]]
            ax.plot(*last, marker=look["marker"], color=look["color"], markersize=5, markeredgecolor="black", zorder=5)
            ax.plot(*points[0], "o", color="black", markerfacecolor="white", markersize=6, zorder=4)
        for minimum in minima:
            ax.plot(*minimum, "*", color="black", markersize=9, zorder=4)
        ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
        ax.tick_params(labelsize=SMALL)
        legend_above(ax, group)
    if title:
        figure.suptitle(title, fontsize=SMALL + 1)
    figure.supxlabel(labels[0], fontsize=SMALL + 1)
    figure.supylabel(labels[1], fontsize=SMALL + 1)
    return figure


def radar_charts(charts: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Positive numbers around a circle, on logarithmic radii: a chart for each title, a closed line for each name.

    ``charts`` maps a title to ``{name: {spoke: value}}`` with the same spokes for every name. The centre is a decade
    below the smallest value of its chart.
    """
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots(1, len(charts), squeeze=False, subplot_kw={"projection": "polar"})[0]
    for ax, (title, lines) in zip(axes, charts.items(), strict=True):
        spokes = list(next(iter(lines.values())))
        angles = 2 * np.pi * np.arange(len(spokes)) / len(spokes)
        logs = {name: np.log10([values[spoke] for spoke in spokes]) for name, values in lines.items()}
        low = np.floor(min(each.min() for each in logs.values()))
        high = max(each.max() for each in logs.values()) + 0.1
        for i, (name, each) in enumerate(logs.items()):
            ax.plot(np.append(angles, 0), np.append(each, each[0]), label=name, markersize=4, **style(i, markers=True))
        decades = np.arange(low, np.floor(high) + 1)
        ax.set(ylim=(low - 1, high), xticks=angles, yticks=decades, theta_offset=np.pi / 2, theta_direction=-1)
        ax.set_xticklabels(spokes, fontsize=SMALL)
        for label, sine in zip(ax.get_xticklabels(), np.sin(angles), strict=True):
            label.set_horizontalalignment("center" if abs(sine) < 0.1 else "left" if sine > 0 else "right")
        ax.tick_params(axis="x", pad=2)
        ax.set_yticklabels([])
        for decade in decades:  # between two spokes, over the lines
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
            name, between = f"$10^{{{int(decade)}}}$", np.pi / len(spokes)
            ax.text(between, decade, name, fontsize=SMALL, ha="center", va="center", zorder=5, bbox=box)
        ax.set_title(title, fontsize=SMALL + 1, pad=14)
        ax.grid(alpha=0.4, linewidth=0.6)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=SMALL)
    return figure


def panels(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Axes in rows of ``columns`` that share their scales, each ``height`` inches high."""
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.4), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)))
    for i, ax in enumerate(axes):
        ax.xaxis.set_tick_params(labelbottom=i + columns >= count)  # where no panel is below
        if i >= count:
            ax.remove()
    return figure, axes[:count]


def style(i: int, markers: bool = False) -> dict[str, Any]:
    """The look of line ``i``: told apart by colour, by dashes and, if wanted, by markers."""
    marker = MARKERS[i % len(MARKERS)] if markers else ""
    return {
        "color": COLORS[i % len(COLORS)],
        "linestyle": DASHES[i % len(DASHES)],
        "marker": marker,
        "linewidth": 1.4,
        "zorder": 3,
    }


def legend_above(ax: Axes, title: str) -> None:
    """The legend between the title and the frame, where it covers nothing."""
    ax.legend(
        *ax.get_legend_handles_labels(),
        title=title,
        title_fontproperties={"weight": "bold", "size": SMALL},
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(-0.03, 1.02),
        ncols=2,
        fontsize=SMALL,
        frameon=False,
        borderpad=0.2,
        borderaxespad=0.0,
        columnspacing=1.0,
        handlelength=2.2,
    )


def tidy(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
