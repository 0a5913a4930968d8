"""The three products of a convolution as products of matrices, a few examples at a time.

The patches of a block of examples, one row ``(a, c)`` per output position, are a matrix that is made, multiplied and
forgotten before the next block, so that it never leaves the processor's cache. The letters are those of ``geometry``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from fnnet.convolution.geometry import Geometry
from fnnet.convolution.im2col import columns, image
from fnnet.types import Array, Shape

BLOCK_BYTES = 3 * 2**20  # of patches at a time


def convolution(x: Array, w: Array, geometry: Geometry) -> Array:
    """``y = patches(x) w`` for each block of examples."""

    def of_block(x: Array) -> Array:
        return times_kernel(columns(x, geometry), w, geometry)

    shape = (len(x), *geometry.output, w.shape[-1])
    return over_blocks(of_block, (x,), shape, x.dtype, block_size(x, geometry))


def input_gradient(dy: Array, w: Array, geometry: Geometry) -> Array:
    """``dx = imageᵀ``: the columns ``dy wᵀ`` of each block of examples, added up where they came from."""
    channels = w.shape[-2] * geometry.groups

    def of_block(dy: Array) -> Array:
        return image(times_kernel_transposed(dy, w, geometry), geometry)

    shape = (len(dy), *geometry.image, channels)
    like = jnp.zeros((len(dy), *(0,) * geometry.rank, channels), dy.dtype)
    return over_blocks(of_block, (dy,), shape, dy.dtype, block_size(like, geometry))


def kernel_gradient(x: Array, dy: Array, geometry: Geometry) -> Array:
    """``dw = Σ patches(x)ᵀ dy`` over the blocks of examples."""
    groups, channels, filters = geometry.groups, x.shape[-1] // geometry.groups, dy.shape[-1] // geometry.groups
    size = block_size(x, geometry)
    accumulator = x.dtype if x.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)

    def of_block(x: Array, dy: Array) -> Array:
        cols = columns(x, geometry).reshape(-1, geometry.taps, groups, channels)
        return jnp.einsum("mgo,magc->goac", dy.reshape(-1, groups, filters), cols, preferred_element_type=accumulator)

    full, left = divmod(len(x), size)
    start = jnp.zeros((groups, filters, geometry.taps, channels), accumulator)
    total = lax.fori_loop(
        0, full, lambda i, total: total + of_block(rows(x, i * size, size), rows(dy, i * size, size)), start
    )
    if left:
        total = total + of_block(x[full * size :], dy[full * size :])
    return jnp.moveaxis(total, (2, 3), (0, 1)).reshape(*geometry.kernel, channels, groups * filters).astype(x.dtype)


def times_kernel(cols: Array, w: Array, geometry: Geometry) -> Array:
    """``(N, *P, A · C)`` times ``w``, group by group."""
    groups, leading = geometry.groups, cols.shape[:-1]
    *_, channels, filters = w.shape
    if groups == 1:
        return (cols.reshape(-1, cols.shape[-1]) @ w.reshape(-1, filters)).reshape(*leading, filters)
    y = jnp.einsum(
        "magc,acgo->mgo",
        cols.reshape(-1, geometry.taps, groups, channels),
        w.reshape(geometry.taps, channels, groups, filters // groups),
    )
    return y.reshape(*leading, filters)


def times_kernel_transposed(dy: Array, w: Array, geometry: Geometry) -> Array:
    """``dy wᵀ (N, *P, A · C)``, group by group."""
    groups, leading = geometry.groups, dy.shape[:-1]
    *_, channels, filters = w.shape
    if groups == 1:
        return (dy.reshape(-1, filters) @ w.reshape(-1, filters).T).reshape(*leading, -1)
    cols = jnp.einsum(
        "mgo,acgo->magc",
        dy.reshape(-1, groups, filters // groups),
        w.reshape(geometry.taps, channels, groups, filters // groups),
    )
    return cols.reshape(*leading, -1)


def block_size(x: Array, geometry: Geometry) -> int:
    """How many examples have patches of ``BLOCK_BYTES`` together."""
    bytes_each = math.prod(geometry.output) * geometry.taps * x.shape[-1] * x.dtype.itemsize
    return max(1, min(len(x), BLOCK_BYTES // bytes_each))


def over_blocks(
    of_block: Callable[..., Array], arrays: tuple[Array, ...], shape: Shape, dtype: Any, size: int
) -> Array:
    """``of_block`` of ``size`` examples at a time, and of those left over at the end, in one array."""
    full, left = divmod(shape[0], size)
    y = jnp.zeros(shape, dtype)

    def put(i: Any, y: Array) -> Array:
        return lax.dynamic_update_slice_in_dim(y, of_block(*(rows(a, i * size, size) for a in arrays)), i * size, 0)

    y = lax.fori_loop(0, full, put, y)
    return y.at[full * size :].set(of_block(*(a[full * size :] for a in arrays))) if left else y


def rows(a: Array, start: Any, size: int) -> Array:
    return lax.dynamic_slice_in_dim(a, start, size)
