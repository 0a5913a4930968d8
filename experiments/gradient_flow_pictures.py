"""The picture of the experiment ``gradient_flow_in_time``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fnnet.plots import COLORS, SMALL, WIDTH, tidy


def flows(groups: Mapping[str, Mapping[float, Any]]) -> Figure:
    """Return norms as lines and bounds dashed over the steps back: a panel for each recurrence, a colour per radius."""
    columns = 3
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(WIDTH, 2.5 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    radii = list(next(iter(groups.values())))
    tiny = np.finfo(np.float64).tiny  # smaller norms are 0 on this scale
    lowest = min(flow.norms[flow.norms >= tiny].min() for by_radius in groups.values() for flow in by_radius.values())
    highest = max(flow.norms.max() for by_radius in groups.values() for flow in by_radius.values())
    for ax, (name, by_radius) in zip(axes.flat, groups.items(), strict=False):
        ax.axhline(1, color="0.6", linewidth=0.8, zorder=1)
        for color, flow in zip(COLORS, by_radius.values(), strict=False):
            back = np.arange(len(flow.norms))
            bounds = np.minimum(flow.bounds, 100 * highest)  # bounds may be infinite above the picture
            ax.plot(back, bounds, linestyle=(0, (2, 2)), color=color, linewidth=1.1, alpha=0.8, zorder=2)
            ax.plot(back, flow.norms, color=color, linewidth=1.6, zorder=3)
        ax.set_title(name, fontsize=SMALL + 1)
        ax.set_yscale("log")
        ax.tick_params(labelsize=SMALL)
        tidy(ax)
    for ax in axes.flat[len(groups) :]:
        ax.remove()
    axes[0, 0].set_ylim(max(lowest / 10, tiny), highest * 10)
    figure.supxlabel("steps back, T − t", fontsize=SMALL + 1)
    figure.supylabel("‖∂h$_T$/∂h$_t$‖", fontsize=SMALL + 1)
    handles = [Line2D([], [], color=color) for color, _ in zip(COLORS, radii, strict=False)]
    names = [f"radius {radius:g}" for radius in radii]
    handles.append(Line2D([], [], color="black", linestyle=(0, (2, 2)), linewidth=1.1))
    figure.legend(handles, [*names, "bound"], loc="outside upper center", ncols=6, frameon=False, fontsize=SMALL)
    return figure
