"""Backpropagation through time with the memory of a few segments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.backprop.layers.recurrent import scan_backward, scan_forward
from fnnet.layers.cells import Carry
from fnnet.layers.recurrent import Recurrent, forwards, in_order, last_gradient
from fnnet.layers.segments import Checkpointed, scan_segments
from fnnet.shards import varying_with
from fnnet.types import Array, Params


def checkpointed_forward(
    layer: Checkpointed, params: Params, x: Array, carry: Carry, mask: Array | None
) -> tuple[Array, Carry, Any]:
    """Return ``(y, carry, residuals)``: the residuals are the inputs and the carries before the segments."""
    inner, x, mask = forwards(layer.layer, x, mask)
    y, after, starts = scan_segments(inner, params, x, carry, mask, layer.length(x))
    return in_order(layer.layer, y), after, (x, mask, carry, starts)


def checkpointed_backward(
    layer: Checkpointed, params: Params, residuals: Any, dy: Array, dcarry: Carry
) -> tuple[Params, Array, Carry]:
    """Run each segment again, from the last to the first, and back from there: dparams is the sum over the segments."""
    x, mask, carry, starts = residuals
    dy = in_order(layer.layer, dy) if layer.layer.return_sequences else last_gradient(dy, x.shape[1], mask)
    inner, segment = Recurrent(layer.layer.cell), layer.length(x)
    count, rest = divmod(x.shape[1], segment)

    def run(state: tuple[Carry, Params, Array], start: Carry, first: Any, steps: int) -> Any:
        """Take the gradients through ``steps`` steps from ``first`` on, and write their dx."""
        dcarry, total, dx = state
        x_here, exists, dy_here = jax.tree.map(
            lambda a: jax.lax.dynamic_slice_in_dim(a, first, steps, 1), (x, mask, dy)
        )
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
