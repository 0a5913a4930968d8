"""The picture of a network: neurons and weights where they are few, boxes with shapes and costs elsewhere.

The layout is computed here, once, as a list of simple shapes. They are written as SVG, or drawn by matplotlib.
"""

from __future__ import annotations

import html
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle as CirclePatch
from matplotlib.patches import FancyBboxPatch
from matplotlib.patches import Polygon as PolygonPatch

from fnnet import checks
from fnnet.binding import name_of
from fnnet.inspect.outline import Outline, Row, amount, collapsed, outline, shape_text
from fnnet.layers import (
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Flatten,
    MultiHeadAttention,
    Recurrent,
    Rematerialized,
    Residual,
    Sequential,
    Truncated,
)
from fnnet.layers.nesting import child_params
from fnnet.types import Layer, Params

POSITIVE, NEGATIVE = "#5e3c99", "#d95f02"  # violet and orange, which colour-blind people distinguish
INK, GREY, PALE, WHITE = "#222222", "#767676", "#e8e8ee", "#ffffff"
WIDTH = 800.0  # pixels, the width of a README
TEXT, SMALL_TEXT = 14.0, 12.0
SHOWN = 12  # units of a wide layer that are drawn, the rest is "…"
FEW = 16  # units of a layer that are all drawn
DEEPEST = 8  # dense layers whose neurons are drawn


class Line(NamedTuple):
    """A line through points."""

    points: Sequence[tuple[float, float]]
    color: str = INK
    width: float = 1.2
    opacity: float = 1.0
    title: str = ""


class Area(NamedTuple):
    """A filled polygon."""

    points: Sequence[tuple[float, float]]
    color: str = INK


class Dot(NamedTuple):
    """A circle."""

    x: float
    y: float
    radius: float
    fill: str = WHITE
    edge: str = INK
    title: str = ""
    dashed: bool = False


class Box(NamedTuple):
    """A rectangle with round corners."""

    x: float
    y: float
    width: float
    height: float
    fill: str = WHITE
    edge: str = INK
    title: str = ""
    radius: float = 5.0


class Text(NamedTuple):
    """One line of text, centred on ``y``; ``anchor`` is "start", "middle" or "end"."""

    x: float
    y: float
    text: str
    size: float = TEXT
    anchor: str = "start"
    color: str = INK
    bold: bool = False


Mark: TypeAlias = Line | Area | Dot | Box | Text


@dataclass(frozen=True)
class Drawing:
    """A picture made of simple shapes, in pixels, with ``y`` downwards. Notebooks show it as SVG."""

    width: float
    height: float
    title: str
    marks: tuple[Mark, ...]

    def svg(self) -> str:
        """Return the picture as the text of an SVG file, with a title for every part that has one."""
        size = f'width="{self.width:.0f}" height="{self.height:.0f}" viewBox="0 0 {self.width:.0f} {self.height:.0f}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif">'
        ground = f'<rect width="100%" height="100%" fill="{WHITE}"/>'
        parts = [head, f"<title>{html.escape(self.title)}</title>", ground, *map(element, self.marks), "</svg>"]
        return "\n".join(parts) + "\n"

    def figure(self) -> Figure:
        """Return the picture as a figure of matplotlib, eight inches wide if the picture has 800 pixels."""
        figure = Figure(figsize=(self.width / 100, self.height / 100))
        ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        ax.set(xlim=(0, self.width), ylim=(self.height, 0))
        ax.set_axis_off()
        for order, each in enumerate(self.marks):
            draw(ax, each, order)
        return figure

    def _repr_svg_(self) -> str:
        return self.svg()


def network(
    model: Layer | Outline, params: Params | None = None, x: Any = None, grads: Params | None = None
) -> Drawing:
    """Return the picture of a network: ``network(...).svg()`` is an SVG text, ``.figure()`` a figure of matplotlib.

    A network of up to eight dense layers is drawn as neurons and weights if it is given as a model, with ``params`` and
    a batch ``x (N, D)``. The width of a line is ``|w|`` relative to the largest in its layer, violet is positive and
    orange is negative. The fill of a neuron is its mean activation over ``x``, relative to the largest in its layer;
    a neuron that is 0 for every example is hollow. Of layers with more than 16 units, 12 are drawn, and "…". With
    ``grads``, the gradients of the parameters, the lines show ``∂L/∂w`` in the same way, and how the error flows back.

    Everything else is drawn as boxes, from an outline or from a model and ``x``, an array or a
    ``jax.ShapeDtypeStruct``, with shapes, parameters and operations. A line around a block is a shortcut, a loop
    "× T" is a recurrence, and equal neighbours are a stack "× n".
    """
    if isinstance(model, Outline):
        return boxes(model)
    checks.require(x is not None, f"plots.network: x is None; pass a batch like those of the model {model!r}")
    dense = dense_layers(model, params)
    drawn = params is not None and dense and len(dense) <= DEEPEST and len(np.shape(x)) == 2
    checks.require(
        grads is None or bool(drawn),
        "plots.network: grads are drawn for networks of a few dense layers only, with params and a batch x (N, D)",
    )
    return (
        neurons(model, dense, x, dense_layers(model, grads) if grads is not None else None)
        if drawn
        else boxes(outline(model, x, params))
    )


# Neurons and weights


class DenseLayer(NamedTuple):
    """A dense layer, the layers without weights after it, and its parameters."""

    layer: Dense
    params: Params
    after: tuple[Layer, ...]


def dense_layers(model: Layer, params: Params) -> list[DenseLayer]:
    """Return the dense layers of a network, none if it has others with parameters or starts with none."""
    found: list[DenseLayer] = []
    for layer, p in flat(model, params):
        if isinstance(layer, Dense):
            found.append(DenseLayer(layer, p, ()))
        elif found and isinstance(layer, Activation | Dropout | Flatten):
            found[-1] = found[-1]._replace(after=(*found[-1].after, layer))
        else:
            return []
    return found


def flat(layer: Layer, params: Params) -> Iterator[tuple[Layer, Params]]:
    """Yield the layers of nested ``Sequential``."""
    if type(layer) is not Sequential:
        yield layer, params
        return
    for name, child in layer.children():
        yield from flat(child, None if params is None else child_params(params, name))


def neurons(model: Layer, dense: list[DenseLayer], x: Any, grads: list[DenseLayer] | None) -> Drawing:
    x = jnp.asarray(x)
    columns, names = [np.asarray(x, np.float64)], [f"input {x.shape[1]}"]
    for each in dense:
        x = each.layer.apply(each.params, x)
        for layer in each.after:
            x = layer.apply({}, x)
        columns.append(np.asarray(x, np.float64))
        functions = [name_of(layer.function) for layer in each.after if isinstance(layer, Activation)]
        names.append(", ".join([f"Dense {each.layer.features}", *functions]))
    weights = [np.asarray((each.params if g is None else g.params)["w"], np.float64) for each, g in pairs(dense, grads)]
    most = max(len(shown(column.shape[1])) for column in columns)
    radius = 11.0 if most <= 8 else 9.0
    top, gap = 56.0, 2 * radius + (14.0 if most <= 8 else 7.0)
    height = top + most * gap + 96
    xs = np.linspace(90, WIDTH - 90, len(columns))
    places = [positions(column.shape[1], top, most, gap) for column in columns]
    marks: list[Mark] = [
        piece
        for i, w in enumerate(weights)
        for piece in lines_of(w, i, xs[i : i + 2], places[i : i + 2], radius, grads is not None)
    ]
    for column, at, center in zip(columns, places, xs, strict=True):
        marks += units_of(column, at, float(center), radius)
    bottom = top + most * gap + 12
    marks += [Text(float(c), bottom, name, TEXT, "middle") for c, name in zip(xs, names, strict=True)]
    for i, w in enumerate(weights):
        between = float(xs[i] + xs[i + 1]) / 2
        norm = f"‖∂L/∂w‖ {np.linalg.norm(w):.2g}" if grads else f"|w| ≤ {np.abs(w).max(initial=0):.2g}"
        marks.append(Text(between, bottom + 22, norm, SMALL_TEXT, "middle", GREY))
    marks += arrow_above(grads is not None) + legend(bottom + 54, grads is not None)
    what = "gradients of the weights" if grads else "weights"
    title = f"Network {'-'.join(str(c.shape[1]) for c in columns)}: neurons by mean activation, {what} by size and sign"
    return Drawing(WIDTH, height, title, tuple(marks))


def pairs(dense: list[DenseLayer], grads: list[DenseLayer] | None) -> Iterator[tuple[DenseLayer, DenseLayer | None]]:
    return zip(dense, itertools.repeat(None) if grads is None else grads, strict=False)


def shown(units: int) -> list[int | None]:
    """Return the units that are drawn, in order, with None for "…"."""
    if units <= FEW:
        return list(range(units))
    first = SHOWN // 2
    return [*range(first), None, *range(units - (SHOWN - first), units)]


def positions(units: int, top: float, most: int, gap: float) -> dict[int | None, float]:
    """Return the height of every unit that is drawn, centred."""
    each = shown(units)
    start = top + (most - len(each)) * gap / 2 + gap / 2
    return {unit: start + i * gap for i, unit in enumerate(each)}


def lines_of(
    w: Any, index: int, xs: Any, places: Sequence[dict[int | None, float]], radius: float, gradients: bool
) -> list[Line]:
    """Return the weights as lines, the largest on top."""
    largest, name = np.abs(w).max(initial=0) or 1.0, "∂L/∂w" if gradients else "w"
    found: list[Line] = []
    for i, before in places[0].items():
        for j, after in places[1].items():
            if i is None or j is None or not np.isfinite(w[i, j]) or w[i, j] == 0:
                continue
            size = abs(w[i, j]) / largest
            ends = (float(xs[0]) + radius, before), (float(xs[1]) - radius, after)
            color = POSITIVE if w[i, j] > 0 else NEGATIVE
            title = f"layer {index + 1}: {name}[{i}, {j}] = {w[i, j]:.3g}"
            found.append(Line(ends, color, 0.3 + 3.2 * size, 0.12 + 0.78 * size, title))
    return sorted(found, key=lambda line: line.width)


def units_of(values: Any, places: dict[int | None, float], x: float, radius: float) -> list[Mark]:
    """Return the neurons of a layer, filled by their mean activation."""
    means = values.mean(0)
    largest = np.abs(means).max(initial=0) or 1.0
    found: list[Mark] = []
    for unit, y in places.items():
        if unit is None:
            found.append(Text(x, y, "⋮", 18, "middle", GREY))
            continue
        mean, dead = means[unit], not values[:, unit].any()
        title = f"unit {unit}: {'0 for every example' if dead else f'mean activation {mean:.3g}'}"
        fill = WHITE if dead else mixed(POSITIVE if mean > 0 else NEGATIVE, abs(mean) / largest)
        found.append(Dot(x, y, radius, fill, GREY if dead else INK, title, dead))
    return found


def mixed(color: str, share: float) -> str:
    """Return a colour between a pale one and ``color``."""
    share = 0.12 + 0.88 * float(np.clip(np.nan_to_num(share), 0, 1))
    parts = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 + (part - 255) * share):02x}" for part in parts)


def arrow_above(back: bool) -> list[Mark]:
    start, end = (WIDTH / 2 + 80, WIDTH / 2 - 80) if back else (WIDTH / 2 - 80, WIDTH / 2 + 80)
    text = "the error flows back, ∂L/∂w" if back else "data flows forward"
    return [Text(WIDTH / 2, 18, text, TEXT, "middle"), *arrow([(start, 34), (end, 34)])]


def legend(y: float, gradients: bool) -> list[Mark]:
    name = "∂L/∂w" if gradients else "w"
    found: list[Mark] = []
    for x, color, text in ((40, POSITIVE, f"{name} > 0"), (150, NEGATIVE, f"{name} < 0")):
        found += [Line([(x, y), (x + 28, y)], color, 3.0, 0.9), Text(x + 36, y, text, SMALL_TEXT)]
    found += [
        Dot(300, y, 8, mixed(POSITIVE, 0.8)),
        Dot(322, y, 8, mixed(NEGATIVE, 0.8)),
        Text(338, y, "mean activation > 0, < 0", SMALL_TEXT),
        Dot(536, y, 8, WHITE, GREY, "", True),
        Text(552, y, "0 for every example", SMALL_TEXT),
    ]
    return found


# Boxes

BOX, STEP = 30.0, 18.0  # heights of a box and of the arrow to the next one
LEFT, RIGHT = 24.0, 424.0  # the edges of the boxes
SHAPES, PARAMETERS, FORWARD = 440.0, 590.0, 696.0  # the columns
BAR = 92.0  # the longest bar


def boxes(summary: Outline) -> Drawing:
    """Return every row as a box, from the input at the top to the output at the bottom."""
    leaves = list(summary.root.leaves())
    layout = Layout(
        summary.depth,
        max([row.parameters for row in leaves_shown(summary)], default=0) or 1,
        max([row.forward or 0 for row in leaves_shown(summary)], default=0) or 1,
    )
    root = summary.root
    y = 40.0
    heads = ((SHAPES, "output"), (PARAMETERS, "parameters"), (FORWARD, "operations"))
    layout.marks += [Text(x, 18, text, SMALL_TEXT, color=GREY) for x, text in heads]
    layout.marks.append(Text((LEFT + RIGHT) / 2, y, f"input {shape_text(root.x)}", SMALL_TEXT, "middle", GREY))
    y = layout.rows([root], y + 12, LEFT, RIGHT, 0)
    total = f"{amount(root.parameters)} parameters"
    if root.forward is not None:
        total += f", {'' if root.complete else 'at least '}{amount(root.forward)} operations forward"
    layout.marks.append(Text((LEFT + RIGHT) / 2, y + 22, total, SMALL_TEXT, "middle", GREY))
    title = f"Network of {len(leaves)} layers: {total}"
    return Drawing(WIDTH, y + 40, title, tuple(layout.marks))


def leaves_shown(summary: Outline) -> list[Row]:
    """Return the rows that are drawn as one box."""
    return [row for level, row in summary.rows() if not row.children or level == summary.depth]


class Layout:
    """The shapes that are drawn so far, and the place of the next box."""

    def __init__(self, depth: int | None, parameters: int, forward: int) -> None:
        self.depth, self.parameters, self.forward = depth, parameters, forward
        self.marks: list[Mark] = []

    def rows(self, rows: Sequence[Row], y: float, left: float, right: float, level: int) -> float:
        """Draw layers one after the other, and return where the last one ends."""
        for row in collapsed(rows):
            y = self.row(row, y, left, right, level)
        return y

    def row(self, row: Row, y: float, left: float, right: float, level: int) -> float:
        inside = row.children if self.depth is None or level < self.depth else ()
        if row.times > 1 and inside:
            return self.stack(row, y, left, right, level)
        if isinstance(row.layer, Residual) and inside:
            return self.residual(row, y, left, right, level)
        if isinstance(row.layer, Bidirectional) and inside:
            return self.lanes(row, y, left, right)
        if inside:
            return self.rows(inside, y, left, right, level + 1)
        return self.box(row, y, left, right)

    def box(self, row: Row, y: float, left: float, right: float, columns: bool = True) -> float:
        """Draw one layer: the arrow to it, its box and its numbers."""
        middle, top = (left + right) / 2, y + STEP
        self.marks += arrow([(middle, y), (middle, top)])
        loop = 58.0 if isinstance(row.layer, Recurrent | Rematerialized | Truncated) else 0.0
        if row.times > 1:
            self.marks += [Box(left + 6 - i, top + 6 - i, right - left - loop - 6, BOX, WHITE, GREY) for i in (0, 3)]
            right -= 6
        title = f"{row.path} {row.label}".strip()
        self.marks.append(Box(left, top, right - left - loop, BOX, PALE, INK, title))
        wide = int((right - left - loop - 14) / 8)
        text = brief(row)
        text = text if len(text) <= wide else f"{text[: wide - 1]}…"
        self.marks.append(Text((left + right - loop) / 2, top + BOX / 2, text, TEXT, "middle"))
        if loop:
            self.loop(right - loop, top, steps_of(row))
        if columns:
            self.columns(row, top + BOX / 2)
        return top + BOX + (6 if row.times > 1 else 0)

    def loop(self, x: float, top: float, steps: str) -> None:
        """Draw an arrow that leaves a box on the right and returns to it."""
        low, high = top + BOX - 7, top + 7
        turn = [(x + 14 + 9 * math.sin(a), (low + high) / 2 + 8 * math.cos(a)) for a in np.linspace(0, math.pi, 13)]
        self.marks += arrow([(x, low), *turn, (x, high)])
        self.marks.append(Text(x + 29, top + BOX / 2, f"× {steps}", SMALL_TEXT))

    def columns(self, row: Row, y: float) -> None:
        self.marks.append(Text(SHAPES, y, shape_text(row.y) if row.y is not None else "–", SMALL_TEXT))
        for x, number, most in (
            (PARAMETERS, row.parameters, self.parameters),
            (FORWARD, row.forward, self.forward),
        ):
            if number:
                self.marks.append(Box(x, y - 11, max(BAR * number / most, 2.0), 22, "#cfe3f2", "none", "", 2.0))
            text = "–" if number is None else amount(number)
            self.marks.append(Text(x + 4, y, text, SMALL_TEXT))

    def residual(self, row: Row, y: float, left: float, right: float, level: int) -> float:
        """Draw the layer, and the shortcut around it as a line on its left; both meet in a sum."""
        layer, shortcut = row.children
        middle = (left + right) / 2
        self.marks.append(Line([(middle, y), (middle, y + 10)]))
        empty = isinstance(shortcut.layer, Activation)
        inner = left + (30 if empty else 136)
        center, fork = (inner + right) / 2, y + 10
        lane, bend = left + 8, fork
        if not empty:
            lane, bend = left + 60, self.box(shortcut, fork, left, left + 120, columns=False)
        self.marks.append(Line([(middle, fork), (center, fork)]))
        end = self.row(layer, fork, inner, right, level + 1)
        total = end + STEP + 9
        self.marks += arrow([(center, end), (center, total - 9)])
        title = f"{row.path} shortcut: {shortcut.label}".strip()
        self.marks.append(Line([(middle, fork), (lane, fork)], title=title))
        self.marks += arrow([(lane, bend), (lane, total), (center - 9, total)], title)
        self.marks += [Dot(center, total, 9, WHITE, INK, "sum"), Text(center, total, "+", TEXT, "middle")]
        self.marks.append(Line([(center, total + 9), (center, total + 14), (middle, total + 14)]))
        return total + 14

    def lanes(self, row: Row, y: float, left: float, right: float) -> float:
        """Draw the two directions next to each other."""
        half = (left + right) / 2
        edges = (left, half - 5), (half + 5, right)
        centers = [(a + b) / 2 for a, b in edges]
        self.marks += [Line([(half, y), (half, y + 8)]), Line([(centers[0], y + 8), (centers[1], y + 8)])]
        for child, (a, b) in zip(row.children, edges, strict=True):
            end = self.box(child, y + 8, a, b, columns=False)
        self.columns(row, end - BOX / 2)
        for center in centers:
            self.marks.append(Line([(center, end), (center, end + 8)]))
        self.marks += [Line([(centers[0], end + 8), (centers[1], end + 8)]), Line([(half, end + 8), (half, end + 10)])]
        return end + 10

    def stack(self, row: Row, y: float, left: float, right: float, level: int) -> float:
        """Draw a block that repeats, as the uppermost sheet of a stack."""
        middle, top, at = (left + right) / 2, y + STEP, len(self.marks)
        end = self.row(replace(row, times=1), top - 4, left + 16, right - 16, level) + 12
        behind = [
            Box(left + offset, top + offset, right - left, end - top, "#fafafc", GREY, f"{row.path} × {row.times}", 8.0)
            for offset in (8.0, 4.0, 0.0)
        ]
        self.marks[at:at] = [*arrow([(middle, y), (middle, top)]), *behind]
        self.marks.append(Text(right - 8, top + 13, f"× {row.times}", TEXT, "end", bold=True))
        self.marks.append(Line([(middle, end - 12), (middle, end)]))
        return end + 8


ONE_FIELD = re.compile(r"^(\w+)\(\w+=([^,()]+)\)")  # a layer with a single field that is not at its default


def brief(row: Row) -> str:
    """Return the name of a layer for its box, without the words that its columns say already."""
    layer = row.layer
    times = f" × {row.times}" if row.times > 1 else ""
    if isinstance(layer, Activation):
        return name_of(layer.function) + times
    if isinstance(layer, Dense):
        return f"Dense {layer.features}{times}"
    if isinstance(layer, Recurrent):
        return f"{type(layer.cell).__name__.removesuffix('Cell')} {layer.cell.features}{times}"
    kernel, features = getattr(layer, "kernel_size", None), getattr(layer, "features", None)
    if kernel is not None:
        spatial = len(row.x.shape) - 2 if row.x is not None else 2
        sizes = (kernel,) * spatial if isinstance(kernel, int) else kernel
        return f"{type(layer).__name__} {features}, {'×'.join(map(str, sizes))}{times}"
    if isinstance(layer, Rematerialized | Truncated):
        return f"{brief(replace(row, layer=layer.layer))}, {type(layer).__name__.lower()}"
    if isinstance(layer, MultiHeadAttention):
        return f"MultiHeadAttention, {layer.heads} heads{times}"
    return ONE_FIELD.sub(r"\1 \2", row.label).replace("()", "")


def steps_of(row: Row) -> str:
    return str(row.x.shape[1]) if row.x is not None else "T"


def arrow(points: Sequence[tuple[float, float]], title: str = "") -> list[Mark]:
    """Return a line with a head at its end."""
    (x1, y1), (x2, y2) = points[-2:]
    length = math.hypot(x2 - x1, y2 - y1) or 1.0
    u, v = (x2 - x1) / length, (y2 - y1) / length
    back = x2 - 8 * u, y2 - 8 * v
    head = [(x2, y2), (back[0] - 4 * v, back[1] + 4 * u), (back[0] + 4 * v, back[1] - 4 * u)]
    return [Line([*points[:-1], back], title=title), Area(head)]


# The two ways of drawing


def element(each: Mark) -> str:
    """Return a shape as an element of SVG."""
    said = getattr(each, "title", "")
    title = f"<title>{html.escape(said)}</title>" if said else ""
    match each:
        case Line():
            tag = f'polyline points="{coordinates(each.points)}" fill="none" stroke="{each.color}"'
            tag += f' stroke-width="{each.width:.2f}" stroke-opacity="{each.opacity:.2f}"'
        case Area():
            tag = f'polygon points="{coordinates(each.points)}" fill="{each.color}"'
        case Dot():
            tag = f'circle cx="{each.x:.1f}" cy="{each.y:.1f}" r="{each.radius:.1f}" fill="{each.fill}"'
            tag += f' stroke="{each.edge}"' + (' stroke-dasharray="3 2"' if each.dashed else "")
        case Box():
            tag = f'rect x="{each.x:.1f}" y="{each.y:.1f}" width="{each.width:.1f}" height="{each.height:.1f}"'
            tag += f' rx="{each.radius:.1f}" fill="{each.fill}" stroke="{each.edge}"'
        case Text():
            look = f'font-size="{each.size:.0f}" text-anchor="{each.anchor}" fill="{each.color}"'
            look += ' font-weight="bold"' if each.bold else ""
            # dominant-baseline is not known to every program, dy is.
            return f'<text x="{each.x:.1f}" y="{each.y:.1f}" dy="0.35em" {look}>{html.escape(each.text)}</text>'
    return f"<{tag}>{title}</{tag.split()[0]}>" if title else f"<{tag}/>"


def coordinates(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


ALIGNMENTS = {"start": "left", "middle": "center", "end": "right"}


def draw(ax: Any, each: Mark, order: int) -> None:
    """Draw a shape with matplotlib; 100 pixels are an inch of 72 points."""
    points = 0.72
    match each:
        case Line():
            xs, ys = zip(*each.points, strict=True)
            ax.plot(xs, ys, color=each.color, linewidth=each.width * points, alpha=each.opacity, zorder=order)
        case Area():
            ax.add_patch(PolygonPatch(list(each.points), facecolor=each.color, edgecolor="none", zorder=order))
        case Dot():
            look: Any = {"facecolor": each.fill, "edgecolor": each.edge, "linewidth": points, "zorder": order}
            ax.add_patch(CirclePatch((each.x, each.y), each.radius, linestyle="--" if each.dashed else "-", **look))
        case Box():
            style = f"round,pad=0,rounding_size={min(each.radius, each.width / 2)}"
            look = {"facecolor": each.fill, "edgecolor": each.edge, "linewidth": points, "zorder": order}
            ax.add_patch(FancyBboxPatch((each.x, each.y), each.width, each.height, boxstyle=style, **look))
        case Text():
            look = {"fontsize": each.size * points, "color": each.color, "zorder": order}
            weight = "bold" if each.bold else "normal"
            ax.text(each.x, each.y, each.text, ha=ALIGNMENTS[each.anchor], va="center", fontweight=weight, **look)
