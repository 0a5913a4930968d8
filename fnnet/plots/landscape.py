"""The cost over a plane in the space of parameters, and the path of a descent on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke

from fnnet.plots.look import COLORS


class Landscape(NamedTuple):
    """The cost over a plane, and the path of a descent.

    ``x (I,)`` and ``y (J,)`` are the coordinates and ``costs (J, I)``, all above 0, the costs. ``path (T, 2)`` holds
    the points of the plane that are nearest to the points of the descent, and ``path_costs (T,)`` the costs there.
    """

    x: Any
    y: Any
    costs: Any
    path: Any
    path_costs: Any
    labels: tuple[str, str] = ("first direction", "second direction")


def landscape_contours(landscapes: Mapping[str, Landscape]) -> Figure:
    """Return contours of the cost, evenly spaced in the logarithm, with the path; one panel for each landscape."""
    figure = Figure(figsize=(4.5 * max(len(landscapes), 1), 4.4), layout=ConstrainedLayoutEngine(w_pad=0.1))
    for ax, (title, land) in zip(
        figure.subplots(1, len(landscapes), squeeze=False)[0], landscapes.items(), strict=True
    ):
        costs = np.asarray(land.costs, np.float64)
        levels = np.geomspace(costs.min(), costs.max(), 25)
        norm = LogNorm(costs.min(), costs.max())
        filled = ax.contourf(land.x, land.y, costs, levels, norm=norm, cmap="viridis")
        ax.contour(land.x, land.y, costs, levels, colors="black", alpha=0.3, linewidths=0.5)
        handles = draw_path(ax, *np.asarray(land.path).T)
        ax.set(title=title, xlabel=land.labels[0], ylabel=land.labels[1])
        ax.locator_params(nbins=5)
        bar = figure.colorbar(filled, ax=ax, location="bottom", label="cost", shrink=0.9)
        bar.set_ticks(round_numbers(costs.min(), costs.max()))
        bar.ax.xaxis.set_major_formatter("{x:g}")
        bar.ax.minorticks_off()
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


def landscape_surface(land: Landscape, title: str = "", elevation: float = 40, azimuth: float = -60) -> Figure:
    """Return the cost as a surface, its height on a log scale, with the path, which the surface never hides."""
    figure = Figure(figsize=(8, 6))
    ax: Any = figure.add_axes((0.0, 0.04, 0.96, 0.88), projection="3d", computed_zorder=False)
    heights = np.log10(np.asarray(land.costs, np.float64))
    points = np.meshgrid(land.x, land.y)
    ax.plot_surface(*points, heights, cmap="viridis", rcount=80, ccount=80, linewidth=0.1, edgecolor="0.25")
    handles = draw_path(ax, *np.asarray(land.path).T, np.log10(np.asarray(land.path_costs, np.float64)))
    ax.set_box_aspect((1, 1, 0.75), zoom=0.95)
    ax.view_init(elevation, azimuth)
    ax.set_xlabel(land.labels[0], labelpad=8)
    ax.set_ylabel(land.labels[1], labelpad=8)
    ax.set_zlabel("cost")
    ax.locator_params(axis="both", nbins=5)
    ticks = round_numbers(10 ** heights.min(), 10 ** heights.max())
    ax.set_zticks(np.log10(ticks), [f"{tick:g}" for tick in ticks])
    figure.suptitle(title, y=0.98)
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.95), ncols=3, frameon=False)
    return figure


def draw_path(ax: Any, *coordinates: Any) -> list[Any]:
    """Draw a path in two or three coordinates, outlined to be visible on every colour, and return legend handles."""
    outline = [withStroke(linewidth=4, foreground="black")]
    (line,) = ax.plot(
        *coordinates, "-", color="white", linewidth=1.8, path_effects=outline, zorder=5, label="path of the descent"
    )
    ends = []
    for index, marker, size, color, name in ((0, "o", 9, COLORS[4], "start"), (-1, "*", 15, COLORS[1], "end")):
        point = [[values[index]] for values in coordinates]
        style = {"color": color, "markeredgecolor": "black", "zorder": 6, "label": name}
        ends += ax.plot(*point, marker, markersize=size, **style)
    return [line, *ends]


def round_numbers(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between two positive numbers, or many powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers = [factor * 10.0**power for power in powers for factor in ((1, 2, 5) if len(powers) <= 4 else (1,))]
    return [number for number in numbers if low <= number <= high]
