"""What the pictures have in common: colours that colour-blind people distinguish, line styles, panels, legends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D")
WIDTH = 8.0  # inches; 9 points are 12 pixels if the picture is 800 pixels wide
SMALL = 9  # points


def style(i: int, markers: bool = False) -> dict[str, Any]:
    """Return the look of line ``i``: its colour, its dashes and, if wanted, its markers differ from other lines."""
    marker = MARKERS[i % len(MARKERS)] if markers else ""
    return {
        "color": COLORS[i % len(COLORS)],
        "linestyle": DASHES[i % len(DASHES)],
        "marker": marker,
        "linewidth": 1.4,
        "zorder": 3,
    }


def tidy(ax: Axes) -> None:
    """Hide the upper and the right edge of the frame, and draw a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)


def panels(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, in rows of ``columns``, which share their scales and are ``height`` inches high."""
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.4), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)))
    for i, ax in enumerate(axes):
        ax.xaxis.set_tick_params(labelbottom=i + columns >= count)  # only where there is no panel below
        if i >= count:
            ax.remove()
    return figure, axes[:count]


def legend_above(ax: Axes, title: str) -> None:
    """Draw the legend above the frame, under its title, where it covers nothing."""
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
