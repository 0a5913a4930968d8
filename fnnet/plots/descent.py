"""Paths of descents over the contours of a function of two variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from fnnet.plots.look import SMALL, legend_above, panels, style

PATH_WIDTHS = (2.4, 1.5, 0.9, 0.9)  # later paths are thinner and lie above earlier ones


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
    """Return paths over the contours of a function of two variables, one panel for each group of paths.

    ``values`` of shape ``(len(y), len(x))`` are the function minus its minimum. The contours are evenly spaced in the
    logarithm. ``groups`` maps the title of a panel to its paths, ``{name: (T, 2)}``; points that are not finite are
    left out. A ring marks the start, stars mark the minima, dots mark the first steps, and a framed dot marks the last
    point. Paths that coincide all stay visible.
    """
    figure, axes = panels(len(groups), columns, height=2.5)
    values = np.asarray(values)
    heights = np.geomspace(max(values[values > 0].min(), values.max() * 1e-5), values.max(), levels)
    values = np.maximum(values, heights[0] / 2)  # the logarithm of a minimum on the grid would be infinite
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
