"""Backpropagation through time with the memory of a few segments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.backprop.layers.recurrent import scan_backward, scan_forward
from fnnet.layers.cells import Carry
from fnnet.layers.recurrent import Recurrent, forwards, in_order, last_gradient
from fnnet.layers.segments import Rematerialized, any_step
from fnnet.shards import varying_with
from fnnet.types import Array, Params


def rematerialized_forward(
    layer: Rematerialized, params: Params, x: Array, carry: Carry, mask: Array | None
) -> tuple[Array, Carry, Any]:
    """Return ``(y, carry, residuals)``: the residuals are the inputs and the carries before the segments."""
    inner, x, mask = forwards(layer.layer, x, mask)
    segment, sequences = layer.length(x), inner.return_sequences
    count, rest = divmod(x.shape[1], segment)

    def run(state: tuple[Carry, Array], first: Any, steps: int) -> tuple[Carry, Array]:
        """Run ``steps`` steps from ``first`` on, and write their outputs."""
        before, y = state
        x_here, exists = cut((x, mask), first, steps)
        y_here, after, _ = scan_forward(inner, params, x_here, before, exists)
        if sequences:
            return after, jax.lax.dynamic_update_slice_in_dim(y, y_here, first, 1)
        return after, jnp.where(any_step(exists), y_here, y)

    zeros = jnp.zeros((x.shape[0], *x.shape[1 : 1 + sequences], inner.cell.features), x.dtype)
    state = varying_with((carry, zeros), params, x, mask)
    if rest:
        state = run(state, 0, rest)
    firsts = rest + segment * jnp.arange(count)
    (after, y), starts = jax.lax.scan(lambda state, first: (run(state, first, segment), state[0]), state, firsts)
    return in_order(layer.layer, y), after, (x, mask, carry, starts)


def cut(arrays: Any, first: Any, steps: int) -> Any:
    """Return ``steps`` steps from ``first`` on of arrays ``(N, T, ...)``."""
    return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, first, steps, 1), arrays)


def rematerialized_backward(
    layer: Rematerialized, params: Params, residuals: Any, dy: Array, dcarry: Carry
) -> tuple[Params, Array, Carry]:
    """Run each segment again, from the last to the first, and back from there: dparams is the sum over the segments."""
    x, mask, carry, starts = residuals
    dy = in_order(layer.layer, dy) if layer.layer.return_sequences else last_gradient(dy, x.shape[1], mask)
    inner, segment = Recurrent(layer.layer.cell), layer.length(x)
    count, rest = divmod(x.shape[1], segment)

    def run(state: tuple[Carry, Params, Array], start: Carry, first: Any, steps: int) -> Any:
        """Take the gradients through ``steps`` steps from ``first`` on, and write their dx."""
        dcarry, total, dx = state
        x_here, exists, dy_here = cut((x, mask, dy), first, steps)
        _, _, kept = scan_forward(inner, params, x_here, start, exists)
        dparams, dx_here, dcarry = scan_backward(inner, params, kept, dy_here, dcarry)
        total = jax.tree.map(lambda sum_, here: sum_ + here.astype(sum_.dtype), total, dparams)
        return dcarry, total, jax.lax.dynamic_update_slice_in_dim(dx, dx_here, first, 1)

    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, checks.at_least_float32(p)), params)
    state = varying_with((dcarry, zeros, jnp.zeros_like(x)), params, x, mask, dy, starts)
    segments = (starts, rest + segment * jnp.arange(count))
    state, _ = jax.lax.scan(lambda state, one: (run(state, *one, segment), None), state, segments, reverse=True)
    if rest:
        state = run(state, carry, 0, rest)
    dcarry, total, dx = state
    dparams = jax.tree.map(lambda sum_, p: sum_.astype(p.dtype), total, params)
    return dparams, dx[:, ::-1] if layer.layer.reverse else dx, dcarry
