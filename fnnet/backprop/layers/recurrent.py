"""Backpropagation through time: the rules of the layers that run a cell over a sequence."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp

from fnnet.backprop.cells import Arrays, cell_rule, outer_sum
from fnnet.backprop.rule import RULES, Rule
from fnnet.cells import Carry
from fnnet.layers.recurrent import Bidirectional, Recurrent, by_time, masked_step
from fnnet.types import Array, Params


def scan_forward(
    layer: Recurrent, params: Params, x: Array, carry: Carry, mask: Array | None
) -> tuple[Array, Carry, Any]:
    """``(y, carry, residuals)``. The arrays of ``z`` go through the loop, which leaves gates in their place."""
    rule = cell_rule(layer.cell)
    x_by_time, exists = by_time(x, mask)

    def step(state: Any, inputs: tuple[Array, Array | None]) -> Any:
        before, last, gates = state
        t, exists = inputs
        after, y, here, kept = rule.forward(layer.cell, params, before, at(gates, t))
        after, shown, last = masked_step(exists, before, after, y, last)
        return (after, last, put(gates, t, here)), (shown if layer.return_sequences else None, kept)

    nothing = jnp.zeros((x.shape[0], layer.cell.features), x.dtype)
    columns = columns_of(rule.widths(layer.cell))
    z = tuple(
        layer.cell.project({"w_x": params["w_x"][:, here], "b": params["b"][here]}, x_by_time) for here in columns
    )
    start = (carry, nothing, z)
    inputs = (jnp.arange(x.shape[1]), exists)
    (carry, last, gates), (ys, kept) = jax.lax.scan(step, start, inputs, reverse=layer.reverse)
    y = jnp.swapaxes(ys, 0, 1) if layer.return_sequences else last
    return y, carry, (x_by_time, exists, gates, kept)


def scan_backward(
    layer: Recurrent, params: Params, residuals: Any, dy: Array, dcarry: Carry
) -> tuple[Params, Array, Carry]:
    """carry_t, y_t = step(carry_{t−1}, z_t) with z_t = x_t w_x + b, for t = 1 ... T  ⇒  from the last step to the first

    dcarry_{t−1}, δ_t = stepᵀ(dcarry_t, dy_t);  then, for all steps at once,  dw_x = Σ_t x_tᵀ δ_t,  db = Σ_t δ_t,
    dx_t = δ_t w_xᵀ, and the recurrent weights likewise. A step that does not exist passes dcarry on and has δ = 0.
    """
    x, exists, gates, kept = residuals
    rule, sequences, final = cell_rule(layer.cell), layer.return_sequences, len(x) - 1
    transposed = jax.tree.map(jnp.transpose, params)

    def step(state: Any, inputs: Any) -> Any:
        dafter, waiting, deltas, here = state
        t, dy, exists, kept = inputs
        dy, waiting = (dy, waiting) if sequences else exchanged(exists, waiting)
        dbefore, delta, more = rule.backward(layer.cell, transposed, here, kept, dafter, shown(exists, dy))
        dbefore = dbefore if exists is None else jax.tree.map(partial(jnp.where, exists[:, None]), dbefore, dafter)
        deltas = put(deltas, t, tuple(shown(exists, part) for part in delta))
        # The gates of the next step are read only now: XLA would copy the array to write where others still read.
        following = at(deltas, jnp.clip(t + 1 if layer.reverse else t - 1, 0, final))
        return (dbefore, waiting, deltas, following), jax.tree.map(partial(shown, exists), more)

    # Without return_sequences y is the output of the last step that exists: its gradient waits for that step.
    waiting, dys = (None, jnp.swapaxes(dy, 0, 1)) if sequences else (dy, None)
    start = (dcarry, waiting, gates, at(gates, 0 if layer.reverse else final))
    inputs = (jnp.arange(len(x)), dys, exists, kept)
    (dcarry, _, delta, _), more = jax.lax.scan(step, start, inputs, reverse=not layer.reverse)
    dparams = rule.weights(layer.cell, kept, delta, more)
    dparams |= {
        "w_x": jnp.concatenate([outer_sum(x, part) for part in delta], -1),
        "b": jnp.concatenate([part.sum((0, 1)) for part in delta]),
    }
    columns = columns_of(rule.widths(layer.cell))
    first, *others = (part @ transposed["w_x"][here] for part, here in zip(delta, columns, strict=True))
    return dparams, jnp.swapaxes(sum(others, first), 0, 1), dcarry


def columns_of(widths: tuple[int, ...]) -> list[slice]:
    """Where arrays of these widths stand side by side."""
    ends = list(accumulate(widths))
    return [slice(end - width, end) for width, end in zip(widths, ends, strict=True)]


def at(steps: Arrays, t: Array | int) -> Arrays:
    return tuple(jax.lax.dynamic_index_in_dim(a, t, 0, keepdims=False) for a in steps)


def put(steps: Arrays, t: Array, step: Arrays) -> Arrays:
    return tuple(jax.lax.dynamic_update_index_in_dim(a, part, t, 0) for a, part in zip(steps, step, strict=True))


def shown(exists: Array | None, step: Array) -> Array:
    """``step``, and 0 where it does not exist."""
    return step if exists is None else jnp.where(exists[:, None], step, 0)


def exchanged(exists: Array | None, waiting: Array) -> tuple[Array, Array]:
    """What a step takes of a gradient that waits for one that exists, and what it leaves."""
    if exists is None:
        return waiting, jnp.zeros_like(waiting)
    return waiting, jnp.where(exists[:, None], 0, waiting)


def recurrent_forward(
    layer: Recurrent, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, Any]:
    y, _, residuals = scan_forward(layer, params, x, layer.checked(params, x, None, None), None)
    return y, residuals


def recurrent_backward(layer: Recurrent, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
    nothing = layer.cell.initial_carry(len(dy), dy.dtype)
    dparams, dx, _ = scan_backward(layer, params, residuals, dy, nothing)
    return dparams, dx


def bidirectional_forward(
    layer: Bidirectional, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, dict[str, Any]]:
    results = {
        name: recurrent_forward(one, params[name], x, key=None, train=train) for name, one in layer.directions.items()
    }
    return jnp.concatenate([y for y, _ in results.values()], -1), {name: kept for name, (_, kept) in results.items()}


def bidirectional_backward(
    layer: Bidirectional, params: Params, residuals: dict[str, Any], dy: Array
) -> tuple[Params, Array]:
    """y = [y_forward, y_backward]  ⇒  each direction has its half of dy, and dx is the sum of both."""
    halves = dict(zip(layer.directions, jnp.split(dy, [layer.cell.features], -1), strict=True))
    results = {
        name: recurrent_backward(one, params[name], residuals[name], halves[name])
        for name, one in layer.directions.items()
    }
    dparams = {name: dp for name, (dp, _) in results.items()}
    return dparams, results["forward"][1] + results["backward"][1]


RULES[Recurrent] = Rule(recurrent_forward, recurrent_backward)
RULES[Bidirectional] = Rule(bidirectional_forward, bidirectional_backward)
