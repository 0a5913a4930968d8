"""Comparisons of many runs: lines in panels, and radar charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from matplotlib.figure import Figure

from fnnet.plots.look import SMALL, WIDTH, legend_above, panels, style, tidy

Lines: TypeAlias = Mapping[str, tuple[Any, Any]]  # x and y of each line, by name


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
    """Return lines in panels, one panel for each group, with the lines of the other groups in grey behind.

    ``groups`` maps the title of a panel to its lines, ``{name: (x, y)}``. All panels share their axes.
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


def radar_charts(charts: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Return radar charts of positive numbers on logarithmic radii.

    ``charts`` maps the title of a chart to its closed lines, ``{name: {spoke: value}}``, with the same spokes for every
    name. The centre of a chart is a decade below its smallest value.
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
        for decade in decades:  # the labels stand between two spokes, above the lines
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
            name, between = f"$10^{{{int(decade)}}}$", np.pi / len(spokes)
            ax.text(between, decade, name, fontsize=SMALL, ha="center", va="center", zorder=5, bbox=box)
        ax.set_title(title, fontsize=SMALL + 1, pad=14)
        ax.grid(alpha=0.4, linewidth=0.6)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=SMALL)
    return figure
