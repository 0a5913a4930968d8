"""Backpropagation through time: the layers that run a cell over a sequence, with a carry and a mask.

Arrays of all steps are ``(N, T, ·)``, as inputs and outputs are: a loop reads and writes its steps in place.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet.backprop.cells import CELL_RULES, Arrays, outer_sum
from fnnet.cells import Carry, check_inputs
from fnnet.layers.recurrent import Bidirectional, Recurrent, masked_step, where_steps_exist
from fnnet.shards import varying_with
from fnnet.types import Array, Params


class Residuals(NamedTuple):
    """Of the forward pass. ``states`` are the outputs themselves where these are the states, else those before."""

    x: Array  # (N, T, D)
    mask: Array | None  # (N, T)
    gates: Array  # (N, T, G H)
    kept: Arrays
    states: Array  # (N, T, H)
    start: Array  # (N, H), the state before the first step


def scan_forward(
    layer: Recurrent, params: Params, x: Array, carry: Carry, mask: Array | None
) -> tuple[Array, Carry, Residuals]:
    """``(y, carry, residuals)``. The array of ``z`` goes through the loop, which leaves the gates in its place."""
    cell, rule, sequences = layer.cell, CELL_RULES.look_up(layer.cell), layer.return_sequences
    check_inputs(cell, x, params["w_x"])
    x = where_steps_exist(x, mask)
    z = x @ params["w_x"]  # b is added in each step: XLA would have both this and the sum in memory

    def step(state: Any, t: Array) -> Any:
        before, last, gates, kept, states, ys, z = state
        after, here, more = rule.forward(cell, params, before, z + params["b"])
        exists = None if mask is None else mask[:, t]
        after, shown, last = masked_step(exists, before, after, rule.output(after), last)
        states = put(states, t, rule.output(before)) if separate else states
        ys = put(ys, t, shown) if sequences else ys
        gates = put(gates, t, here)
        # z of the next step is read only now: XLA would copy an array to write where others still read.
        z = at(gates, jnp.clip(t - 1 if layer.reverse else t + 1, 0, x.shape[1] - 1))
        return (after, last, gates, put(kept, t, more), states, ys, z), None

    separate = not states_are_outputs(layer, mask)
    start = rule.output(carry)
    nothing = jnp.zeros((len(x), cell.features), x.dtype)
    kept = jax.eval_shape(lambda: rule.forward(cell, params, carry, at(z, 0))[2])
    stacks = tuple(jnp.zeros((len(x), x.shape[1], a.shape[-1]), a.dtype) for a in kept)
    states, ys = (
        jnp.zeros((*x.shape[:2], cell.features), x.dtype) if needed else None for needed in (separate, sequences)
    )
    first = at(z, x.shape[1] - 1 if layer.reverse else 0)
    state = varying_with((carry, nothing, z, stacks, states, ys, first), params, mask)
    state, _ = jax.lax.scan(step, state, jnp.arange(x.shape[1]), reverse=layer.reverse)
    carry, last, gates, kept, states, ys, _ = state
    return ys if sequences else last, carry, Residuals(x, mask, gates, kept, states if separate else ys, start)


def states_are_outputs(layer: Recurrent, mask: Array | None) -> bool:
    return layer.return_sequences and mask is None


def scan_backward(
    layer: Recurrent, params: Params, residuals: Residuals, dy: Array, dcarry: Carry
) -> tuple[Params, Array, Carry]:
    """carry_t, y_t = step(carry_{t−1}, z_t) with z_t = x_t w_x + b, for t = 1 ... T  ⇒  from the last step to the first

    dcarry_{t−1}, δ_t = stepᵀ(dcarry_t, dy_t);  then, for all steps at once,  dw_x = Σ_t x_tᵀ δ_t,  db = Σ_t δ_t,
    dx_t = δ_t w_xᵀ, and the recurrent weights likewise. A step that does not exist passes dcarry on and has δ = 0.
    """
    x, mask, gates, kept, _, _ = residuals
    rule, sequences = CELL_RULES.look_up(layer.cell), layer.return_sequences
    transposed = jax.tree.map(jnp.transpose, params)
    before = partial(state_before, layer, residuals)

    def step(state: Any, t: Array) -> Any:
        dafter, waiting, deltas, left, gates, kept = state
        exists = None if mask is None else mask[:, t]
        # Without return_sequences y is the output of the last step that exists: its gradient waits for that step.
        dy_here, waiting = (at(dy, t), None) if sequences else exchanged(exists, waiting)
        dbefore, delta, more = rule.backward(
            layer.cell, transposed, before(t), gates, kept, dafter, shown(exists, dy_here)
        )
        dbefore = dbefore if exists is None else jax.tree.map(partial(jnp.where, exists[:, None]), dbefore, dafter)
        deltas = put(deltas, t, shown(exists, delta))
        left = put(left, t, jax.tree.map(partial(shown, exists), more))
        # As forward: read only when the others are written.
        following = jnp.clip(t + 1 if layer.reverse else t - 1, 0, x.shape[1] - 1)
        return (dbefore, waiting, deltas, left, at(deltas, following), at(left, following)), None

    last = 0 if layer.reverse else x.shape[1] - 1
    state = (dcarry, None if sequences else dy, gates, kept, at(gates, last), at(kept, last))
    state = varying_with(state, params, residuals, dy)
    state, _ = jax.lax.scan(step, state, jnp.arange(x.shape[1]), reverse=not layer.reverse)
    dcarry, _, delta, left, _, _ = state
    dparams = rule.weights(layer.cell, states_before(layer, residuals), delta, left)
    dparams |= {"w_x": outer_sum(x, delta), "b": delta.sum((0, 1))}
    return dparams, delta @ transposed["w_x"], dcarry


def state_before(layer: Recurrent, residuals: Residuals, t: Array) -> Array:
    """The state before step ``t``, ``(N, H)``."""
    states, final = residuals.states, residuals.states.shape[1] - 1
    if not states_are_outputs(layer, residuals.mask):
        return at(states, t)
    first, previous = (final, t + 1) if layer.reverse else (0, t - 1)
    return jnp.where(t == first, residuals.start, at(states, jnp.clip(previous, 0, final)))


def states_before(layer: Recurrent, residuals: Residuals) -> Array:
    """The states before all steps, ``(N, T, H)``."""
    states, start = residuals.states, residuals.start[:, None]
    if not states_are_outputs(layer, residuals.mask):
        return states
    return jnp.concatenate([states[:, 1:], start] if layer.reverse else [start, states[:, :-1]], 1)


def at(steps: Any, t: Array | int) -> Any:
    """Step ``t`` of arrays of all steps: ``(N, T, ·) -> (N, ·)``."""
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, t, 1, keepdims=False), steps)


def put(steps: Any, t: Array, step: Any) -> Any:
    return jax.tree.map(lambda a, part: jax.lax.dynamic_update_index_in_dim(a, part, t, 1), steps, step)


def shown(exists: Array | None, step: Array) -> Array:
    """``step``, and 0 where it does not exist."""
    return step if exists is None else jnp.where(exists[:, None], step, 0)


def exchanged(exists: Array | None, waiting: Array) -> tuple[Array, Array]:
    """What a step takes of a gradient that waits for one that exists, and what it leaves."""
    if exists is None:
        return waiting, jnp.zeros_like(waiting)
    return waiting, jnp.where(exists[:, None], 0, waiting)


def bidirectional_forward(
    layer: Bidirectional, params: Params, x: Array, carry: dict[str, Carry], mask: Array | None
) -> tuple[Array, dict[str, Carry], dict[str, Any]]:
    ys, after, residuals = [], {}, {}
    for name, one in layer.directions.items():
        y, after[name], residuals[name] = scan_forward(one, params[name], x, carry[name], mask)
        ys.append(y)
    return jnp.concatenate(ys, -1), after, residuals


def bidirectional_backward(
    layer: Bidirectional, params: Params, residuals: dict[str, Any], dy: Array, dcarry: dict[str, Carry]
) -> tuple[Params, Array, dict[str, Carry]]:
    """y = [y_forward, y_backward]  ⇒  each direction has its half of dy, and dx is the sum of both."""
    halves = dict(zip(layer.directions, jnp.split(dy, [layer.cell.features], -1), strict=True))
    found = {
        name: scan_backward(one, params[name], residuals[name], halves[name], dcarry[name])
        for name, one in layer.directions.items()
    }
    dparams, dx, dstart = ({name: each[i] for name, each in found.items()} for i in range(3))
    return dparams, dx["forward"] + dx["backward"], dstart
