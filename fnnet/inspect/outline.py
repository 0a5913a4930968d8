"""The outline of a network: its layers as a tree, with shapes, parameters, operations and memory."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.backprop import RULES
from fnnet.backprop.custom_vjp import CustomVJP
from fnnet.initializers import zeros
from fnnet.inspect.operations import CELLS, OPERATIONS, operations
from fnnet.layers import Bidirectional, LowPrecision, Residual, Sequential, children
from fnnet.layers.nesting import child_params
from fnnet.optimizers import Optimizer
from fnnet.paths import named_leaves
from fnnet.types import Layer, Params

LONGEST_PATTERN = 8  # layers that repeat together
UNKNOWN = "–"
Tensor = jax.ShapeDtypeStruct


@dataclass(frozen=True)
class Row:
    """One layer of an outline with everything inside it, or equal neighbours together.

    All numbers are sums over the layers inside and over the ``times`` neighbours, for the whole batch: ``parameters``
    and their ``bytes``; ``forward`` and ``backward`` operations and ``transcendental`` values, see
    ``fnnet.inspect.operations``; ``residuals``, the bytes that the forward pass keeps for the backward pass and that no
    layer before it keeps already; ``state``, the bytes of the optimizer's state for these parameters. A number is None
    if nothing is known. ``complete`` is False if the operations or the residuals of a layer inside are missing in them.

    ``layer`` is None for several layers that repeat together.
    """

    path: str
    layer: Layer | None
    x: Tensor | None
    y: Tensor | None
    parameters: int = 0
    bytes: int = 0
    forward: int | None = None
    backward: int | None = None
    transcendental: int | None = None
    residuals: int | None = None
    state: int | None = None
    growth: str = ""
    complete: bool = True
    times: int = 1
    children: tuple[Row, ...] = ()

    @property
    def label(self) -> str:
        """Return the name of the layer, with its configuration unless its layers have rows of their own."""
        if self.layer is None:
            name = ", ".join(child.label for child in self.children)
        else:
            name = type(self.layer).__name__ if self.children else repr(self.layer)
        return f"{name} × {self.times}" if self.times > 1 else name

    def leaves(self) -> Iterable[Row]:
        """Yield the rows without layers inside, in the order of the forward pass."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves()


@dataclass(frozen=True)
class Outline:
    """A network as a tree of rows, see ``outline``. ``str()`` is a table; ``depth`` limits how deep it goes."""

    root: Row
    depth: int | None = None
    other_state: int = field(default=0, repr=False)
    """Bytes of the optimizer's state that belong to no parameter."""

    def rows(self) -> list[tuple[int, Row]]:
        """Return ``(level, row)`` for every row of the table: equal neighbours are one row."""
        found: list[tuple[int, Row]] = []

        def visit(row: Row, level: int) -> None:
            found.append((level, row))
            if self.depth is None or level < self.depth:
                for child in collapsed(row.children):
                    visit(child, level + 1)

        visit(self.root, 0)
        return found

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the heads of the columns, and the texts of the rows with the totals last."""
        with_state = self.root.state is not None
        heads = ["layer", "input → output", "parameters", "forward", "backward", "kept", "grows as"]
        lines = [row_texts(row, "  " * level, with_state) for level, row in self.rows()]
        totals = row_texts(self.root, "", with_state)
        totals[:2] = "total", f"{memory(self.root.bytes)} of parameters"
        totals[6] = ""
        if with_state:
            totals[-1] = memory((self.root.state or 0) + self.other_state)
        lines.append(totals)
        return heads + ["state"] * with_state, lines

    def __str__(self) -> str:
        heads, lines = self.table()
        widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
        left = {0, 1, 6}

        def line(texts: Sequence[str]) -> str:
            padded = [
                text.ljust(width) if i in left else text.rjust(width)
                for i, (text, width) in enumerate(zip(texts, widths, strict=True))
            ]
            return "  ".join(padded).rstrip()

        rule = "─" * (sum(widths) + 2 * len(widths) - 2)
        return "\n".join([line(heads), rule, *map(line, lines[:-1]), rule, line(lines[-1])])

    def _repr_html_(self) -> str:
        heads, lines = self.table()
        head = "".join(f"<th style='text-align:left'>{html.escape(text)}</th>" for text in heads)

        def row(texts: list[str], tag: str = "td") -> str:
            level = len(texts[0]) - len(texts[0].lstrip())
            styles = [f"text-align:left;padding-left:{level / 2 + 0.5}em", "text-align:left"]
            styles += ["text-align:right"] * 4 + ["text-align:left"] * (len(texts) - 6)
            each = zip(styles, texts, strict=True)
            return "".join(f"<{tag} style='{style}'>{html.escape(text.strip())}</{tag}>" for style, text in each)

        body = "".join(f"<tr>{row(texts)}</tr>" for texts in lines[:-1])
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}<tr>{row(lines[-1], 'th')}</tr></tbody></table>"


def outline(
    model: Layer,
    x: Any,
    params: Params | None = None,
    optimizer: Optimizer | None = None,
    *,
    depth: int | None = None,
) -> Outline:
    """Return the layers of a model as a tree of rows, with the shapes, operations and memory of a training step.

    ``x`` is a batch, or a ``jax.ShapeDtypeStruct`` like one. Without ``params`` their shapes are those of ``init``.
    With an ``optimizer`` the rows have the memory of its state. Only shapes are computed, and nothing is compiled or
    run; equal layers are traced once.

        print(fnnet.inspect.outline(model, x))

    Equal neighbours, and up to eight layers that repeat together, are one row of the table, "× 12", which holds their
    sums; ``depth`` limits how deep the table goes, 0 for the whole model alone. Operations are closed forms, see
    ``fnnet.inspect.operations``; the first layers with parameters compute no gradient of their input, and it is not
    counted there. Memory for the backward pass is what the hand-written rules keep. An array that two neighbours keep
    counts once, at the layer that keeps it first.

    A layer that is not fnnet's is a row, too. It has "–" where nothing is known, and sums without it have "≥".
    """
    x = jax.tree.map(tensor, x)
    walk = Walk()
    passed = walk.through(model, None if params is None else jax.tree.map(tensor, params), x, "", x_needed=False)
    row, unassigned = passed.row, 0
    if optimizer is not None:
        row, unassigned = with_state(row, jax.eval_shape(optimizer.init, passed.params), passed.params)
    return Outline(row, depth, unassigned)


class Passed(NamedTuple):
    """A row, the parameters, and what the layer keeps or passes on: its input, its output, the input as the output."""

    row: Row
    params: Params
    y: Any
    keeps_x: bool = False
    keeps_y: bool = False
    same: bool = False


class Leaf(NamedTuple):
    """What is known of a layer from its shapes alone."""

    params: Params
    y: Any
    own: int | None  # bytes of residuals that are neither the input nor the output
    keeps_x: bool
    keeps_y: bool
    same: bool


class Walk:
    """The walk over the layers in the order of the forward pass. It remembers layers that it has traced."""

    def __init__(self) -> None:
        self.key = jax.eval_shape(lambda: jax.random.key(0))
        self.known: dict[Any, Leaf] = {}

    def through(
        self, layer: Layer, params: Params | None, x: Any, path: str, *, x_needed: bool, held: bool = False
    ) -> Passed:
        """Return the row of a layer. ``x_needed``: its backward pass needs dx; ``held``: ``x`` is kept already."""
        kind = type(layer)
        if kind is Sequential:
            return self.chain(layer, params, x, path, x_needed, held)
        if kind in (Residual, Bidirectional):
            return self.side_by_side(layer, params, x, path, x_needed, held)
        if kind in (LowPrecision, CustomVJP):
            return self.wrapped(layer, params, x, path, x_needed, held)
        return self.leaf(layer, params, x, path, x_needed, held)

    def chain(self, layer: Any, params: Any, x: Any, path: str, x_needed: bool, held: bool) -> Passed:
        rows: list[Row] = []
        found: list[Params] = []
        y, keeps_x, same = x, False, True  # same: what came so far is x itself
        for name, child in children(layer):
            p = None if params is None else child_params(params, name)
            one = self.through(child, p, y, path_of(path, name), x_needed=x_needed, held=held)
            keeps_x |= same and one.keeps_x
            same &= one.same
            held = one.keeps_y or (one.same and (held or one.keeps_x))
            x_needed |= one.row.parameters > 0
            rows.append(one.row)
            found.append(one.params)
            y = one.y
        row = total(path, layer, x, y, rows)
        return Passed(row, tuple(found), y, keeps_x, held and not same, same)

    def side_by_side(self, layer: Any, params: Any, x: Any, path: str, x_needed: bool, held: bool) -> Passed:
        """A residual block or two directions: every child has the input of the layer."""
        passed: dict[str, Passed] = {}
        keeps_x = False
        for name, child in children(layer):
            p = None if params is None else child_params(params, name)
            passed[name] = self.through(child, p, x, path_of(path, name), x_needed=x_needed, held=held or keeps_x)
            keeps_x |= passed[name].keeps_x
        y, other = (one.y for one in passed.values())
        if isinstance(layer, Bidirectional):
            y = Tensor((*y.shape[:-1], y.shape[-1] + other.shape[-1]), y.dtype)
        row = total(path, layer, x, y, [one.row for one in passed.values()], x_needed)
        return Passed(row, {name: one.params for name, one in passed.items()}, y, keeps_x)

    def wrapped(self, layer: Any, params: Any, x: Any, path: str, x_needed: bool, held: bool) -> Passed:
        """A layer around one other, whose parameters are its own."""
        if isinstance(layer, LowPrecision):
            low = None if params is None else jax.tree.map(rounded(layer), params)
            one = self.through(layer.layer, low, rounded(layer)(x), path, x_needed=x_needed)
            found = self.init(layer, x) if params is None else params
            y = Tensor(one.y.shape, layer.wide(x))
            row = total(path, layer, x, y, [one.row], x_needed)
            sizes = sum(size_of(found).values())
            zeros = jnp.dtype(one.y.dtype).itemsize + jnp.dtype(x.dtype if checks.is_float(x) else jnp.float32).itemsize
            row = replace(row, bytes=sizes, residuals=None if row.residuals is None else row.residuals + zeros)
            return Passed(row, found, y)
        one = self.through(layer.layer, params, x, path, x_needed=x_needed, held=held)
        return one._replace(row=total(path, layer, x, one.y, [one.row]))

    def leaf(self, layer: Layer, params: Params | None, x: Any, path: str, x_needed: bool, held: bool) -> Passed:
        known = self.traced(layer, params, x)
        counted = operations(layer, x, known.y)
        sizes = size_of(known.params)
        kept = known.own
        if kept is not None:
            kept += bytes_of(x) * (known.keeps_x and not held) + bytes_of(known.y) * known.keeps_y
        row = Row(
            path,
            layer,
            x,
            known.y,
            sum(prod(p.shape) for p in jax.tree.leaves(known.params)),
            sum(sizes.values()),
            None if counted is None else counted.forward,
            None if counted is None else counted.to_params + counted.to_inputs * x_needed,
            None if counted is None else counted.transcendental,
            kept,
            growth="" if counted is None else counted.growth,
            complete=counted is not None and kept is not None,
            children=() if type(layer) in OPERATIONS else tuple(of_children(layer, known.params, path)),
        )
        return Passed(row, known.params, known.y, known.keeps_x, known.keeps_y, known.same)

    def traced(self, layer: Layer, params: Params | None, x: Any) -> Leaf:
        leaves, structure = jax.tree.flatten((params, x))
        at = layer, structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        if at not in self.known:
            self.known[at] = self.trace(layer, self.init(layer, x) if params is None else params, x)
        return self.known[at]

    def init(self, layer: Layer, x: Any) -> Params:
        return jax.eval_shape(lambda key: undrawn(layer).init(key, x), self.key)

    def trace(self, layer: Layer, params: Params, x: Any) -> Leaf:
        rule = RULES.get(type(layer))
        if rule is not None:
            try:
                return self.run(rule.forward, layer, params, x)
            except TypeError:  # the activation or the cell has no rule; for any other reason the layer raises it, too
                pass
        y = jax.eval_shape(lambda p, x, key: layer.apply(p, x, key=key, train=True), params, x, self.key)
        return Leaf(params, y, None, keeps_x=False, keeps_y=False, same=False)

    def run(self, rule: Any, layer: Layer, params: Params, x: Any) -> Leaf:
        kept: dict[str, Any] = {}

        def forward(params: Params, x: Any, key: Any) -> Any:
            y, residuals = rule(layer, params, x, key=key, train=True)
            leaves = {id(leaf): leaf for leaf in jax.tree.leaves(residuals)}
            kept["keeps_x"] = leaves.pop(id(x), None) is not None
            kept["keeps_y"] = leaves.pop(id(y), None) is not None
            kept["own"] = sum(map(bytes_of, leaves.values()))
            kept["same"] = y is x
            return y

        y = jax.eval_shape(forward, params, x, self.key)
        return Leaf(params, y, **kept)


def undrawn(layer: Any) -> Any:
    """Return a layer or cell of fnnet that starts at zero: the shapes are the same, and random numbers trace slowly."""
    if type(layer) not in OPERATIONS and type(layer) not in CELLS:
        return layer
    changes: Any = {
        each.name: zeros if each.name.endswith("_init") else undrawn(getattr(layer, each.name))
        for each in fields(layer)
        if each.name.endswith("_init") or each.name in ("cell", "layer")
    }
    return replace(layer, **changes)


def of_children(layer: Layer, params: Params, path: str) -> Iterable[Row]:
    """Yield rows for the layers inside a layer that is not fnnet's: their parameters are known, and nothing else."""
    for name, child in children(layer):
        p, at = child_params(params, name), path_of(path, name)
        sizes = size_of(p)
        count = sum(prod(leaf.shape) for leaf in jax.tree.leaves(p))
        inside = tuple(of_children(child, p, at))
        yield Row(at, child, None, None, count, sum(sizes.values()), complete=False, children=inside)


def total(path: str, layer: Layer, x: Any, y: Any, rows: Sequence[Row], x_needed: bool = False) -> Row:
    """Return the row of a layer made of others: their sums, and the operations of the layer itself."""
    own = operations(layer, x, y)
    row = replace(summed(rows), path=path, layer=layer, x=x, y=y, children=tuple(rows), growth="", times=1)
    if own is None:
        return row
    return replace(
        row,
        forward=plus(row.forward, own.forward),
        backward=plus(row.backward, own.to_params + own.to_inputs * x_needed),
        transcendental=plus(row.transcendental, own.transcendental),
    )


def summed(rows: Sequence[Row]) -> Row:
    """Return a row with the sums of others, and with what the first is."""
    if not rows:
        return Row("", None, None, None, 0, 0, 0, 0, 0, 0)
    names = "parameters", "bytes", "forward", "backward", "transcendental", "residuals", "state"
    sums: Any = {name: plus(*(getattr(row, name) for row in rows)) for name in names}
    return replace(rows[0], **sums, complete=all(row.complete for row in rows))


def plus(*numbers: int | None) -> int | None:
    """Return the sum of the numbers that are known, None if none is."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def collapsed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with equal neighbours as one row, and likewise up to eight rows that repeat together."""
    found, i = [], 0
    keys = [(row.layer, row.x, row.y) for row in rows]
    while i < len(rows):
        period, times = 1, 1
        for length in range(1, min(LONGEST_PATTERN, (len(rows) - i) // 2) + 1):
            count = 1
            while keys[i + count * length : i + (count + 1) * length] == keys[i : i + length]:
                count += 1
            if count > 1 and count * length > period * times:
                period, times = length, count
        parts = [rows[i + offset : i + period * times : period] for offset in range(period)]
        merged = [together(part) for part in parts]
        if period == 1:
            found.append(merged[0])
        else:
            of_all = summed(merged)
            path = path_range(rows[i].path, rows[i + period * times - 1].path)
            each = tuple(replace(row, times=1) for row in merged)
            last = rows[i + period - 1].y
            found.append(replace(of_all, path=path, layer=None, y=last, times=times, growth="", children=each))
        i += period * times
    return found


def together(rows: Sequence[Row]) -> Row:
    """Return equal layers as one row, with the sums of each layer inside."""
    if len(rows) == 1:
        return rows[0]
    each = zip(*(row.children for row in rows), strict=True)
    inside = tuple(replace(together(alike), path=alike[0].path, times=1) for alike in each)
    return replace(summed(rows), path=path_range(rows[0].path, rows[-1].path), times=len(rows), children=inside)


def path_range(first: str, last: str) -> str:
    return f"{first}…{last.rpartition('.')[2]}"


def with_state(row: Row, state: Any, params: Params) -> tuple[Row, int]:
    """Return the row with the bytes of the optimizer's state, and the bytes that belong to no parameter."""
    names, sizes, unassigned = {name for name, _ in named_leaves(params)}, dict[str, int](), 0
    for name, leaf in named_leaves(state):
        steps = name.split(".")
        owner = next((end for i in range(len(steps)) if (end := ".".join(steps[i:])) in names), None)
        if owner is None:
            unassigned += bytes_of(leaf)
        else:
            sizes[owner] = sizes.get(owner, 0) + bytes_of(leaf)

    def filled(row: Row) -> Row:
        own = sum(size for name, size in sizes.items() if f"{name}.".startswith(f"{row.path}." if row.path else ""))
        return replace(row, state=own, children=tuple(map(filled, row.children)))

    return filled(row), unassigned


def row_texts(row: Row, indent: str, with_state: bool) -> list[str]:
    """Return the texts of one row of the table."""
    name = f"{row.path.rpartition('.')[2]} " if row.path and indent else ""
    texts = [
        f"{indent}{name}{shortened(row.label, 44)}",
        UNKNOWN if row.x is None else f"{shape_text(row.x)} → {shape_text(row.y)}",
        amount(row.parameters),
        lower_bound(row, row.forward, amount),
        lower_bound(row, row.backward, amount),
        lower_bound(row, row.residuals, memory),
        row.growth,
    ]
    return texts + [memory(row.state or 0)] * with_state


def lower_bound(row: Row, number: int | None, written: Any) -> str:
    if number is None:
        return UNKNOWN
    return f"{'' if row.complete else '≥ '}{written(number)}"


def shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def shape_text(x: Any) -> str:
    return " ".join("×".join(map(str, leaf.shape)) or "scalar" for leaf in jax.tree.leaves(x))


def amount(number: int) -> str:
    """Return a count as text, in full below a million."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,}"


def memory(size: int) -> str:
    """Return a number of bytes as text."""
    for unit, one in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= one:
            return f"{size / one:.3g} {unit}" if size < 1000 * one else f"{size / one:,.0f} {unit}"
    return f"{size} B"


def path_of(path: str, name: str) -> str:
    return ".".join(filter(None, (path, name)))


def tensor(a: Any) -> Tensor:
    a = a if hasattr(a, "dtype") else jnp.asarray(a)
    return Tensor(tuple(a.shape), checks.dtype_of(a))


def rounded(layer: LowPrecision) -> Any:
    return lambda a: Tensor(a.shape, layer.dtype if checks.is_float(a) else a.dtype)


def bytes_of(a: Any) -> int:
    return prod(a.shape) * jnp.dtype(a.dtype).itemsize


def size_of(params: Params) -> dict[str, int]:
    """Return the bytes of every parameter by its name."""
    return {name: bytes_of(leaf) for name, leaf in named_leaves(params)}
