"""The rules of pooling."""

from __future__ import annotations

import itertools
import math
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.backprop.rule import RULES, Rule
from fnnet.layers import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from fnnet.layers.windows import AxisWindows
from fnnet.types import Array, Params

# The shape of x, for a backward pass that needs nothing else of x: residuals are arrays, and an array without entries
# carries a shape at no cost.
Outline = Array


def outline(x: Array) -> Outline:
    return jnp.zeros((*x.shape, 0), x.dtype)


def max_pool_forward(
    layer: MaxPool, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, tuple[Array, Outline]]:
    y, index = layer.with_index(x)
    return y, (index, outline(x))


def max_pool_backward(
    layer: MaxPool, params: Params, residuals: tuple[Array, Outline], dy: Array
) -> tuple[Params, Array]:
    """y_o = x_{p(o)} with p(o) the position of the maximum  ⇒  dx_p = Σ_o [p(o) = p] dy_o.

    Tie rule: of equal maxima in a window, the first in row-major order receives all of dy_o (see ``MaxPool``).

    The sum is gathered, not scattered: position p = stride q + r is seen by the windows o = q − j at the offsets
    k = r + stride j, for j = 0 .. reach − 1, and receives dy_o of those whose index is k.
    """
    index, shaped = residuals
    windows = layer.windows(jax.ShapeDtypeStruct(shaped.shape[:-1], dy.dtype))
    index, dy = with_margins(index, windows), with_margins(dy, windows)
    dx = jnp.zeros((), dy.dtype)
    for shifts in itertools.product(*(range(along.reach) for along in windows)):
        places = places_in_window(windows, shifts).astype(index.dtype)
        dx += jnp.where(seen(index, windows, shifts) == places, seen(dy, windows, shifts), 0)
    return {}, joined(dx, windows)


def avg_pool_forward(
    layer: AvgPool, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, Outline]:
    return layer.apply(params, x), outline(x)


def avg_pool_backward(layer: AvgPool, params: Params, shaped: Outline, dy: Array) -> tuple[Params, Array]:
    """y_o = 1/n_o Σ_k x_{stride o + k}  ⇒  dx_p = Σ_o [o sees p] dy_o / n_o, axis by axis."""
    windows = layer.windows(jax.ShapeDtypeStruct(shaped.shape[:-1], dy.dtype))
    dx = dy.astype(checks.at_least_float32(dy))
    dx = dx / layer.counts(windows).astype(dx.dtype)
    for along in windows:
        wide, dx = with_margins(dx, (along,)), jnp.zeros((), dx.dtype)
        for shift in range(along.reach):
            inside = (offsets(along, shift) < along.size).reshape(-1, *(1,) * (wide.ndim - 1 - along.axis))
            dx += jnp.where(inside, seen(wide, (along,), (shift,)), 0)
        dx = joined(dx, (along,))
    return {}, dx.astype(dy.dtype)


def global_avg_pool_forward(
    layer: GlobalAvgPool, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, Outline]:
    return layer.apply(params, x), outline(x)


def global_avg_pool_backward(layer: GlobalAvgPool, params: Params, shaped: Outline, dy: Array) -> tuple[Params, Array]:
    """y = 1/n Σ_p x_p over the n positions  ⇒  dx_p = dy / n."""
    n, *positions, c = shaped.shape[:-1]
    dx = (dy / math.prod(positions)).reshape(n, *(1 for _ in positions), c)
    return {}, jnp.broadcast_to(dx, (n, *positions, c))


def global_max_pool_forward(
    layer: GlobalMaxPool, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, tuple[Array, Outline]]:
    y, index = layer.with_index(x)
    return y, (index, outline(x))


def global_max_pool_backward(
    layer: GlobalMaxPool, params: Params, residuals: tuple[Array, Outline], dy: Array
) -> tuple[Params, Array]:
    """y = x_{p*} with p* the place of the maximum  ⇒  dx_p = [p = p*] dy."""
    index, shaped = residuals
    shape = shaped.shape[:-1]
    places = jnp.arange(math.prod(shape[1:-1]), dtype=index.dtype)[:, None]
    return {}, jnp.where(places == index[:, None], dy[:, None], 0).reshape(shape)


def with_margins(dy: Array, windows: tuple[AxisWindows, ...]) -> Array:
    """Return ``dy`` padded for the windows that a shift reaches before the first and after the last one.

    The barrier keeps XLA from computing the padding again in each of its many readers.
    """
    room = [(0, 0)] * dy.ndim
    for along in windows:
        room[along.axis] = (along.reach - 1, along.steps - along.outputs)
    return dy if not np.any(room) else jax.lax.optimization_barrier(jnp.pad(dy, room))


def seen(wide: Array, windows: tuple[AxisWindows, ...], shifts: tuple[int, ...]) -> Array:
    """Return for every stride ``q`` of each axis the entry of window ``q − shift``, with an axis after it for ``r``."""
    for along, shift in zip(windows, shifts, strict=True):
        start = along.reach - 1 - shift
        wide = jax.lax.slice_in_dim(wide, start, start + along.steps, axis=along.axis)
    return jnp.expand_dims(wide, [along.axis + i + 1 for i, along in enumerate(windows)])


def joined(dx: Array, windows: tuple[AxisWindows, ...]) -> Array:
    """Return ``dx`` with the axes ``q`` and ``r`` joined, and without the padding."""
    for along in windows:
        shape = (*dx.shape[: along.axis], along.steps * along.stride, *dx.shape[along.axis + 2 :])
        dx = jax.lax.slice_in_dim(dx.reshape(shape), along.low, along.low + along.length, axis=along.axis)
    return dx


def offsets(along: AxisWindows, shift: int) -> np.ndarray[Any, Any]:
    """Return the offsets ``k = r + stride · shift`` of the positions ``r`` of a stride."""
    return np.arange(along.stride) + along.stride * shift


def places_in_window(windows: tuple[AxisWindows, ...], shifts: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return these offsets as one index in row-major order, in a shape that compares with ``seen``.

    Offsets outside of the window get an index that no entry has.
    """
    sizes = [along.size for along in windows]
    grid = np.meshgrid(*map(offsets, windows, shifts), indexing="ij")
    inside = reduce(np.logical_and, [k < size for k, size in zip(grid, sizes, strict=True)])
    places = np.ravel_multi_index([np.minimum(k, size - 1) for k, size in zip(grid, sizes, strict=True)], sizes)
    spread = [n for along in windows for n in (1, along.stride)][1:]
    return np.where(inside, places, math.prod(sizes)).reshape(*spread, 1)


RULES[MaxPool] = Rule(max_pool_forward, max_pool_backward)
RULES[AvgPool] = Rule(avg_pool_forward, avg_pool_backward)
RULES[GlobalAvgPool] = Rule(global_avg_pool_forward, global_avg_pool_backward)
RULES[GlobalMaxPool] = Rule(global_max_pool_forward, global_max_pool_backward)
