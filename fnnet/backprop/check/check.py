"""``check_gradients``: the comparison and its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.backprop.check.compare import ZERO, as_float64, compare_trees, deviation, errors, largest, pairs, ulps
from fnnet.backprop.check.diagnosis import diagnose
from fnnet.backprop.check.differences import Probe, probe_tensor
from fnnet.backprop.check.problem import Problem, make_problem, own_rng
from fnnet.backprop.check.report import GradientReport, GradientRow
from fnnet.cost import Cost
from fnnet.types import Array, DType, Layer, Params

TOLERANCE = 1e-10  # float64: rounding errors of well-scaled gradients are about 1e-15
ROUNDINGS = 16.0  # of the largest gradient: what a gradient that is zero on paper may come out as
NUDGES, TIMES_NUDGED = 4, 100.0  # what such a gradient may be: a multiple of its largest change in a number of trials
EPS = float(np.finfo(np.float64).eps)
ULPS, TIMES_AUTODIFF = 16.0, 4.0  # low precision: the error allowed, besides a multiple of autodiff's own


def check_gradients(
    subject: Cost | Layer | Callable[..., Any],
    params: Params,
    data: Any,
    *,
    wrt: Sequence[str] | None = None,
    value_and_grad: Callable[..., Any] | None = None,
    key: Array | None = None,
    train: bool = False,
    dtype: DType = "float64",
    tolerance: float | None = None,
    differences: bool = True,
    seed: int = 0,
) -> GradientReport:
    """Check gradients by hand against autodiff and against central differences, tensor by tensor.

    ``subject`` is one of

    - a ``fnnet.Cost``, with ``data=(x, y)`` or ``(x, y, weights)``: its hand-written gradient, or that of
      ``value_and_grad``;
    - a layer, with ``data=x``: its hand-written rule, for the parameters and for ``x``;
    - any function ``f(params, data)``: the gradient of ``value_and_grad``, or, without it, what ``jax.grad`` gives.

    ``value_and_grad`` is called as ``value_and_grad(subject)(params, data)``, like ``jax.value_and_grad`` (and for a
    ``Cost`` also with ``key`` and ``train``). Autodiff runs the ``jax.custom_vjp`` of a function or a layer itself, so
    that a wrong one without another rule is found by the differences alone.

    ``wrt`` names what to differentiate with respect to: "params", "x", "target" and "weights". By default these are the
    parameters, and ``x`` of a layer. If the data of a function is a tuple or a list, its first three entries have these
    names, else all of it is "x". There are rules by hand for the parameters, and for ``x`` of a layer and of a cost
    without ``value_and_grad``. For targets and weights there are none: what ``jax.grad`` gives is checked by the
    differences alone, as it is for ``x`` of a function.

    Everything is compared in float64, whatever the dtypes of the arrays and the default precision. A row is right if
    ``max |m − a| ≤ tolerance · max |a|`` and no central difference contradicts it; these are taken along some entries
    of every tensor and along random directions, drawn from ``seed``. A difference across a kink is counted as such and
    is no error. With ``dtype="float32"`` or ``"bfloat16"`` the gradient under test is computed in that precision and
    the reference in float64 at the same, rounded point; the error may be 16 units in the last place of the largest
    entry of the tensor, plus 4 times the error that autodiff makes in that precision.

    The note of a wrong row says which entry is wrong and by how much, and names the likely fault.
    """
    if isinstance(subject, Cost) and not (isinstance(data, (tuple, list)) and len(data) in (2, 3)):
        raise TypeError("check_gradients: a Cost is checked on a batch; expected data=(x, y) or (x, y, weights)")
    if not callable(subject) and not isinstance(subject, Layer):
        raise TypeError(
            f"check_gradients: {subject!r} is neither a fnnet.Cost, a layer with init and apply, nor a function"
        )
    if value_and_grad is not None and not isinstance(subject, Cost) and isinstance(subject, Layer):
        raise TypeError(
            "check_gradients: a layer is checked by its rule in fnnet.backprop.RULES, not by value_and_grad="
        )
    low = None if jnp.dtype(dtype) == jnp.float64 else jnp.dtype(dtype)
    with jax.enable_x64(True):
        if low is not None:  # both sides are computed at the rounded point
            params, data = rounded(params, low), rounded(data, low)
        problem = make_problem(subject, value_and_grad, wrt, params, data, key, train, seed)
        alone = [name for name in problem.wrt if name not in problem.by_rule]
        if alone and not differences:
            raise ValueError(
                f"check_gradients: there is nothing to compare autodiff with for {', '.join(alone)}; "
                f"{'pass value_and_grad=, or ' if 'params' in alone else ''}leave differences on"
            )
        reference = problem.by_autodiff()
        if low is None:
            rows = rows_in_float64(problem, reference, TOLERANCE if tolerance is None else tolerance)
        else:
            rows = rows_in_low_precision(problem, reference, low)
        if differences:
            rows = with_differences(problem, rows, own_rng(seed, "differences"))
    return GradientReport(
        rows,
        (TOLERANCE if tolerance is None else tolerance) if low is None else None,
        str(jnp.dtype(dtype)),
        compared(problem, alone, differences),
    )


def compared(problem: Problem, alone: list[str], differences: bool) -> str:
    """Return what was compared with what, in words."""
    if not problem.by_rule:
        return "autodiff against central differences"
    by_rule = f"by hand against autodiff{' and central differences' if differences else ''}"
    return by_rule + (f", {' and '.join(alone)} by autodiff against central differences" if alone else "")


def rows_in_float64(problem: Problem, reference: Any, tolerance: float) -> tuple[GradientRow, ...]:
    by_hand = problem.by_hand()
    rows = compare_trees(by_hand, reference, tolerance, rounding_of(reference, "float64"))
    tensors = {name: (m, a) for name, m, a, note in pairs(by_hand, reference) if not note}
    if any(row.note == ZERO for row in rows):
        noise = rounding_errors(problem, reference)
        rows = tuple(
            replace(row, ok=False, note="")
            if row.note == ZERO and largest(tensors[row.path][1]) > noise[row.path]
            else row
            for row in rows
        )
    return tuple(
        row if row.ok or row.note else replace(row, note=diagnose(problem, row.path, *tensors[row.path]))
        for row in rows
    )


def rows_in_low_precision(problem: Problem, reference: Any, dtype: DType) -> tuple[GradientRow, ...]:
    low = problem.in_dtype(dtype)
    by_hand = low.by_hand()
    autodiff = {name: m for name, m, _, note in pairs(low.by_autodiff(), reference) if not note}
    rounding, rows = rounding_of(reference, dtype), []
    for row, (name, m, a, note) in zip(
        compare_trees(by_hand, reference, np.inf), pairs(by_hand, reference), strict=True
    ):
        if note:
            rows.append(row)
            continue
        error, own = (ulps(errors(side, a)[0], a, dtype) for side in (m, autodiff[name]))
        ok = bool(error <= ULPS + TIMES_AUTODIFF * own or row.absolute <= rounding)
        rows.append(replace(row, ulps=error, ok=ok, note="" if ok else diagnose(problem, name, m, a)))
    return tuple(rows)


def rounding_errors(problem: Problem, reference: Any) -> dict[str, float]:
    """Return, for each tensor, how large a gradient may be that is zero apart from rounding.

    It is a multiple of the change of the reference when the variables change in their last digits. A gradient that is
    zero by an identity then changes completely, and one that is only small changes in proportion to itself.
    """
    rng, right, most = np.random.default_rng(0), dict(reference), dict.fromkeys(dict(reference), 0.0)
    for _ in range(NUDGES):
        nudged = jax.tree.map(lambda v: v * (1 + EPS * rng.integers(-2, 3, v.shape)), problem.variables)
        for name, a in problem.at(nudged).by_autodiff():
            most[name] = max(most[name], errors(as_float64(a), as_float64(right[name]))[0])
    return {name: TIMES_NUDGED * error for name, error in most.items()}


def rounding_of(reference: Any, dtype: DType) -> float:
    """Return the rounding error in ``dtype`` of sums of numbers as large as the largest gradient."""
    return (
        ROUNDINGS * float(jnp.finfo(dtype).eps) * max((largest(as_float64(a)) for _, a in reference[1:]), default=0.0)
    )


def with_differences(
    problem: Problem, rows: tuple[GradientRow, ...], rng: np.random.Generator
) -> tuple[GradientRow, ...]:
    """Return the rows with what central differences say about autodiff's gradient, which right rows share."""
    gradients = problem.by_autodiff()[1:]
    by_path = {row.path: row for row in rows}
    hand = dict(problem.by_hand()) if problem.by_rule else {}
    for index, (name, gradient) in enumerate(gradients):
        row = by_path[name]
        a = np.asarray(gradient)
        worst = int(np.argmax(deviation(np.asarray(hand[name]), a))) if row.ok and name in hand and a.size else 0
        by_path[name] = with_probes(row, probe_tensor(problem, index, a, rng, worst), a)
    return tuple(by_path[row.path] for row in rows)


def with_probes(row: GradientRow, probes: list[Probe], a: Any) -> GradientRow:
    scale = float(np.abs(a).max(initial=0.0))
    smooth = [probe.error / scale if scale > 0 else probe.error for probe in probes if not probe.kink]
    kinks = sum(probe.kink for probe in probes)
    row = replace(row, differences=max(smooth) if smooth else None, kinks=kinks)
    wrong = [probe for probe in probes if probe.wrong]
    if not wrong or not row.ok:
        return row
    first = wrong[0]
    at = "a random direction" if first.entry is None else f"entry {list(first.entry)}"
    ratio = f", a factor of {first.claimed / first.difference:.6g}" if first.difference else ""
    note = (
        f"along {at} the slope is {first.difference:.6g} by central differences but {first.claimed:.6g} by "
        f"differentiation{ratio}: a custom derivative is wrong, or a value is cut off from its derivative"
    )
    return replace(row, ok=False, note=note)


def rounded(tree: Any, dtype: DType) -> Any:
    """Return the tree with floating-point leaves rounded to ``dtype``, as float64 numbers."""

    def leaf(value: Any) -> Any:
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return value
        array = np.asarray(value)
        return array.astype(dtype).astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array

    return jax.tree.map(leaf, tree)
