"""Backpropagation through time with the memory of a few segments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.backprop.layers.recurrent import scan_backward, scan_forward
from fnnet.cells import Carry
from fnnet.layers.segments import (
    Checkpointed,
    any_step,
    forwards,
    in_order,
    joined,
    rest_of,
    scan_segments,
    segments_of,
)
from fnnet.types import Array, Params


def checkpointed_forward(
    layer: Checkpointed, params: Params, x: Array, carry: Carry, mask: Array | None
) -> tuple[Array, Carry, Any]:
    """``(y, carry, residuals)``: the carries at the segments' starts and the inputs."""
    inner, x, mask = forwards(layer.layer, x, mask)
    y, after, starts = scan_segments(inner, params, x, carry, mask, layer.length(x))
    return in_order(layer.layer, y), after, (x, mask, carry, starts)


def checkpointed_backward(
    layer: Checkpointed, params: Params, residuals: Any, dy: Array, dcarry: Carry
) -> tuple[Params, Array, Carry]:
    """From the last segment to the first: forward once more from its carry, then back; dparams is the sum over them."""
    x, mask, carry, starts = residuals
    inner, _, _ = forwards(layer.layer, x, None)
    sequences, segment = inner.return_sequences, layer.length(x)

    def run(state: tuple[Carry, Any, Params], piece: Any) -> Any:
        dcarry, waiting, total = state
        x, exists, start, dy = piece
        if not sequences:  # the gradient of the last output waits for the last segment with a step
            here = any_step(exists)
            dy, waiting = jnp.where(here, waiting, 0), jnp.where(here, 0, waiting)
        _, _, kept = scan_forward(inner, params, x, start, exists)
        dparams, dx, dcarry = scan_backward(inner, params, kept, dy, dcarry)
        total = jax.tree.map(lambda sum_, part: sum_ + part.astype(sum_.dtype), total, dparams)
        return (dcarry, waiting, total), dx

    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, checks.at_least_float32(p)), params)
    state = (dcarry, None if sequences else dy, zeros)
    arrays = x, mask, in_order(layer.layer, dy) if sequences else None
    xs, masks, dys = segments_of(arrays, segment)
    state, dx = jax.lax.scan(run, state, (xs, masks, starts, dys), reverse=True)
    dx_rest = None
    if x.shape[1] % segment:
        x_rest, mask_rest, dy_rest = rest_of(arrays, segment)
        state, dx_rest = run(state, (x_rest, mask_rest, carry, dy_rest))
    dcarry, _, total = state
    dx = joined(dx_rest, dx)
    dparams = jax.tree.map(lambda sum_, p: sum_.astype(p.dtype), total, params)
    return dparams, dx[:, ::-1] if layer.layer.reverse else dx, dcarry
