"""Backpropagation through time with the memory of a few segments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.backprop.layers.recurrent import scan_backward, scan_forward
from fnnet.cells import Carry
from fnnet.layers.segments import Rematerialized, any_step, forwards, in_order
from fnnet.shards import varying_with
from fnnet.types import Array, Params


def rematerialized_forward(
    layer: Rematerialized, params: Params, x: Array, carry: Carry, mask: Array | None
) -> tuple[Array, Carry, Any]:
    """``(y, carry, residuals)``: the carries at the segments' starts and the inputs. y is filled in place."""
    inner, x, mask = forwards(layer.layer, x, mask)
    segment, sequences = layer.length(x), inner.return_sequences
    count, rest = divmod(x.shape[1], segment)

    def run(state: tuple[Carry, Array], first: Any, steps: int) -> tuple[Carry, Array]:
        before, y = state
        x_here, exists = cut((x, mask), first, steps)
        y_here, after, _ = scan_forward(inner, params, x_here, before, exists)
        if sequences:
            return after, jax.lax.dynamic_update_slice_in_dim(y, y_here, first, 1)
        return after, jnp.where(any_step(exists), y_here, y)

    nothing = jnp.zeros((len(x), *x.shape[1 : 1 + sequences], inner.cell.features), x.dtype)
    state = varying_with((carry, nothing), params, x, mask)
    if rest:
        state = run(state, 0, rest)
    firsts = rest + segment * jnp.arange(count)
    (after, y), starts = jax.lax.scan(lambda state, first: (run(state, first, segment), state[0]), state, firsts)
    return in_order(layer.layer, y), after, (x, mask, carry, starts)


def cut(arrays: Any, first: Any, steps: int) -> Any:
    """The steps from ``first`` on."""
    return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, first, steps, 1), arrays)


def rematerialized_backward(
    layer: Rematerialized, params: Params, residuals: Any, dy: Array, dcarry: Carry
) -> tuple[Params, Array, Carry]:
    """From the last segment to the first: forward once more from its carry, then back; dparams is the sum over them."""
    x, mask, carry, starts = residuals
    inner, _, _ = forwards(layer.layer, x, None)
    segment, sequences = layer.length(x), inner.return_sequences
    count, rest = divmod(x.shape[1], segment)
    arrays = x, mask, in_order(layer.layer, dy) if sequences else None

    def run(state: tuple[Carry, Any, Params, Array], start: Carry, first: Any, steps: int) -> Any:
        """The steps from ``first`` on. dx is filled in place."""
        dcarry, waiting, total, dx = state
        x, exists, dy = cut(arrays, first, steps)
        if not sequences:  # the gradient of the last output waits for the last segment with a step
            here = any_step(exists)
            dy, waiting = jnp.where(here, waiting, 0), jnp.where(here, 0, waiting)
        _, _, kept = scan_forward(inner, params, x, start, exists)
        dparams, dx_here, dcarry = scan_backward(inner, params, kept, dy, dcarry)
        total = jax.tree.map(lambda sum_, part: sum_ + part.astype(sum_.dtype), total, dparams)
        return dcarry, waiting, total, jax.lax.dynamic_update_slice_in_dim(dx, dx_here, first, 1)

    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, checks.at_least_float32(p)), params)
    state = (dcarry, None if sequences else dy, zeros, jnp.zeros_like(x))
    state = varying_with(state, params, arrays, dy, starts)
    places = (starts, rest + segment * jnp.arange(count))
    state, _ = jax.lax.scan(lambda state, place: (run(state, *place, segment), None), state, places, reverse=True)
    if rest:
        state = run(state, carry, 0, rest)
    dcarry, _, total, dx = state
    dparams = jax.tree.map(lambda sum_, p: sum_.astype(p.dtype), total, params)
    return dparams, dx[:, ::-1] if layer.layer.reverse else dx, dcarry
