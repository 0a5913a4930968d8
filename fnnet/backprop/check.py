"""The gradient checker: hand-written gradients against autodiff, in float64, tensor by tensor.

The only module of ``fnnet.backprop`` that calls autodiff: the comparison is its job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.backprop.cost import value_and_grad
from fnnet.backprop.rule import vjp
from fnnet.cost import Cost
from fnnet.paths import named_leaves
from fnnet.types import Array, Layer, Params


@dataclass(frozen=True)
class GradientRow:
    """One tensor's comparison: ``m`` by hand, ``a`` by autodiff."""

    path: str
    shape: tuple[int, ...]
    absolute: float  # max |m − a|
    relative: float  # max |m − a| / max |a|
    cosine: float  # m · a / (‖m‖ ‖a‖)
    ok: bool
    note: str = ""


@dataclass(frozen=True)
class GradientReport:
    """The rows of a check, one per tensor. ``report.ok`` is True if all of them are; ``str(report)`` is a table."""

    rows: tuple[GradientRow, ...]
    tolerance: float

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    @property
    def worst(self) -> float:
        """The largest relative error of all tensors."""
        return max((row.relative for row in self.rows), key=lambda r: float("inf") if np.isnan(r) else r)

    def __str__(self) -> str:
        header = ("tensor", "shape", "max abs error", "max rel error", "cosine", "")
        lines = [header] + [
            (
                row.path,
                "×".join(map(str, row.shape)) or "scalar",
                f"{row.absolute:.2e}",
                f"{row.relative:.2e}",
                f"{row.cosine:.6f}",
                ("ok" if row.ok else "DIFFERS") + (f": {row.note}" if row.note else ""),
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
        table = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        wrong = [row.path for row in self.rows if not row.ok]
        verdict = f"differ: {', '.join(wrong)}" if wrong else "all agree"
        return "\n".join([*table, f"{verdict} (relative tolerance {self.tolerance:g}, float64)"])


def check_gradients(
    subject: Cost | Layer,
    params: Params,
    data: Any,
    *,
    key: Array | None = None,
    train: bool = False,
    tolerance: float = 1e-10,
    seed: int = 0,
) -> GradientReport:
    """Compare the hand-written gradients of a ``Cost`` or a layer with ``jax.grad``'s, tensor by tensor.

    ``data`` is a batch ``(x, y)`` for a cost, an input ``x`` for a layer. Both sides are computed in float64, whatever
    the dtypes given and the default precision. For a layer the gradient with respect to the output is random (drawn
    from ``seed``): one of ones would miss errors that sum to zero, as softmax's do. A row is right if
    ``max |m − a| ≤ tolerance · max |a|``; the first row compares the values, ``x`` is a layer's input.
    """
    if isinstance(subject, Cost) and not (isinstance(data, (tuple, list)) and len(data) == 2):
        raise TypeError("check_gradients: a Cost is checked on a batch; expected data=(x, y)")
    if not isinstance(subject, (Cost, Layer)):
        raise TypeError(f"check_gradients: {subject!r} is neither a fnnet.Cost nor a layer with init and apply")
    with jax.enable_x64(True):
        params, data = float64(params), float64(data)
        compare = compare_cost if isinstance(subject, Cost) else compare_layer
        by_hand, by_autodiff = compare(subject, params, data, key, train, seed)
        return GradientReport(compare_trees(by_hand, by_autodiff, tolerance), tolerance)


def compare_cost(cost: Any, params: Params, batch: Any, key: Array | None, train: bool, seed: int) -> tuple[Any, Any]:
    value_m, grads_m = value_and_grad(cost)(params, batch, key=key, train=train)
    value_a, grads_a = jax.value_and_grad(cost)(params, batch, key=key, train=train)
    return [("value", value_m), *named_leaves(grads_m)], [("value", value_a), *named_leaves(grads_a)]


def compare_layer(layer: Any, params: Params, x: Array, key: Array | None, train: bool, seed: int) -> tuple[Any, Any]:
    y_m, pullback_m = vjp(layer, params, x, key=key, train=train)
    y_a, pullback_a = jax.vjp(lambda p, x: layer.apply(p, x, key=key, train=train), params, x)
    dy = jnp.asarray(np.random.default_rng(seed).standard_normal(y_a.shape))

    def named(y: Array, pulled: tuple[Params, Array]) -> list[tuple[str, Array]]:
        return [("y", y), *named_leaves(pulled[0]), ("x", pulled[1])]

    return named(y_m, pullback_m(dy)), named(y_a, pullback_a(dy))


def compare_trees(by_hand: Any, by_autodiff: Any, tolerance: float) -> tuple[GradientRow, ...]:
    """A row for each tensor of either side, matched by name."""
    hand, auto = dict(by_hand), dict(by_autodiff)
    rows = []
    for path, a in auto.items():
        m = hand.pop(path, None)
        if m is None or np.shape(m) != np.shape(a):
            note = "missing by hand" if m is None else f"by hand of shape {np.shape(m)}"
            rows.append(GradientRow(path, np.shape(a), float("nan"), float("nan"), float("nan"), False, note))
        else:
            rows.append(compare_tensors(path, np.asarray(m), np.asarray(a), tolerance))
    for path, m in hand.items():
        nan = float("nan")
        rows.append(GradientRow(path, np.shape(m), nan, nan, nan, False, "autodiff has no such tensor"))
    return tuple(rows)


def compare_tensors(path: str, m: np.ndarray, a: np.ndarray, tolerance: float) -> GradientRow:
    difference = np.where(m == a, 0.0, np.abs(m - a))  # infinities that agree differ by 0, not by NaN
    absolute = float(difference.max(initial=0.0))
    scale = float(np.abs(a).max(initial=0.0))
    relative = absolute if absolute == 0 else (absolute / scale if scale > 0 else float("inf"))
    norms = float(np.linalg.norm(m) * np.linalg.norm(a))
    cosine = float(np.vdot(m, a)) / norms if norms > 0 else (1.0 if absolute == 0 else 0.0)
    return GradientRow(path, a.shape, absolute, relative, cosine, bool(relative <= tolerance))


def float64(tree: Any) -> Any:
    """Every floating-point leaf as a float64 array, other leaves as they are. Within ``jax.enable_x64``."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError("check_gradients: called inside a jax transformation; it compares numbers, call it outside")
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        values = np.asarray(leaf)
        return jnp.asarray(values.astype(np.float64) if jnp.issubdtype(values.dtype, jnp.floating) else values)

    return jax.tree.map(convert, tree)
