"""Convolutions as products of matrices, a block of examples at a time: faster than XLA's own convolution on CPU.

The patches of a block, one row of ``A · C`` numbers for each output position, are a matrix that is built, multiplied
and overwritten by the next one. It stays in the processor's cache, and the patches of all examples never exist
together. The letters are those of ``fnnet.convolution.geometry``.

Measured: float32, milliseconds of XLA / of patches, 2 cores, jax 0.10.2. E is an AMD EPYC with AVX-512, X an Intel
Xeon at 2.5 GHz, Cascade Lake, AVX-512. The blocks were of at most 4 MiB; with 2 MiB, as now, X took 0.75 to 1.2 of the
time of patches.

    ================================  ==================  ==================  ==================
    images, channels, kernel          forward             input gradient      kernel gradient
    ================================  ==================  ==================  ==================
    128 of 12², 20 → 40, 5²        E  3.7 / 1.7           7.9 / 3.0           4.5 / 3.7
                                   X  7.9 / 6.0           11 / 8.4            16 / 6.8
    128 of 32², 32 → 64, 3²        E  85 / 35             34 / 26             153 / 38
                                   X  130 / 62            29 / 38             433 / 107
    64 of 16², 64 → 128, 3²        E  12 / 6.5                                28 / 15
                                   X  33 / 24             15 / 15             50 / 23
    64 of 28², 1 → 20, 5²          E  0.57 / 1.8          2.9 / 0.90          1.2 / 1.7
                                   X  1.5 / 3.2           12 / 2.8            6.0 / 4.0
    64 of 32², 32 → 64, 3², by 2   E  3.4 / 5.3                               9.5 / 6.4
                                   X  8.7 / 10            14 / 10             33 / 13
    32 of 16², 64 → 64, 3², in 4   E  4.7 / 6.4                               243 / 6.1
                                   X  9.7 / 12            9.9 / 17            384 / 14
    8 of 7², 512 → 512, 3²         E                      16 / 28             12 / 69
                                   X  29 / 51             30 / 18             22 / 33
    8 of 56², 64 → 64, 3²          E  8.8 / 15            9.0 / 11
                                   X  19 / 30             19 / 17             63 / 35
    ================================  ==================  ==================  ==================

Try without it from jax 0.11 on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from fnnet.checks import is_symbolic
from fnnet.convolution.geometry import Geometry
from fnnet.convolution.im2col import columns, image
from fnnet.shards import varying_alike
from fnnet.types import Array, Shape

BLOCK_BYTES = 2**21  # of patches: larger blocks leave the cache, smaller ones make small products of matrices
MANY_TAPS = 121  # the program has an operation for each tap: compiling more of them takes too long


def is_faster(name: str, first: Shape, second: Shape, geometry: Geometry) -> bool:
    """Return whether patches are the faster way to compute an operation of ``fnnet.convolution.operators`` on CPU.

    ``first`` and ``second`` are the shapes of its operands. These are rules of thumb from the table above.
    """
    if geometry.taps > MANY_TAPS or is_pointwise(geometry):
        return is_pointwise(geometry)
    if any(map(is_symbolic, first)):
        return False
    channels = second[-2] * geometry.groups if name == "input_gradient" else first[-1]
    each, one = channels // geometry.groups, patch_entries(geometry, 1, channels)
    entries, wide_groups = first[0] * one, geometry.groups > 1 and each >= 8
    if name == "convolution":
        # XLA's time rises by jumps with the entries of all patches, earlier for few filters.
        return one < 1e6 and not wide_groups and entries > (2e6 if second[-1] < 64 else 6e6)
    if name == "input_gradient":
        # XLA's loop over the channels suits whole vectors of them, and neither strides nor groups of one.
        return not wide_groups and (channels % 16 > 0 or max(geometry.stride) > 1 or geometry.groups > 1)
    # XLA exchanges channels and examples in memory, which is cheap for few entries.
    if each == 1 or (each <= 4 and geometry.taps > 9):
        return False
    return geometry.groups > 1 or geometry.taps == 1 or entries > (3e6 if geometry.rank == 1 else 2e6)


def convolution(x: Array, w: Array, geometry: Geometry) -> Array:
    """Compute ``y = im2col(x) w``."""
    size = block_size(geometry, x.shape, x.dtype.itemsize)
    return over_blocks(lambda x: times(columns(x, geometry), w, geometry), x, size)


def input_gradient(dy: Array, w: Array, geometry: Geometry) -> Array:
    """Compute ``dx = col2im(dy wᵀ)``."""
    shape = (dy.shape[0], *geometry.image, w.shape[-2] * geometry.groups)
    size = block_size(geometry, shape, dy.dtype.itemsize)
    return over_blocks(lambda dy: image(times_transposed(dy, w, geometry), geometry), dy, size)


def kernel_gradient(x: Array, dy: Array, geometry: Geometry) -> Array:
    """Compute ``dw = im2col(x)ᵀ dy``, summed over the blocks in at least float32."""
    groups, (*_, channels), (*_, filters) = geometry.groups, x.shape, dy.shape
    size = block_size(geometry, x.shape, x.dtype.itemsize)
    dtype = x.dtype if x.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)

    def of_block(x: Array, dy: Array) -> Array:
        cols = columns(x, geometry)
        rows = math.prod(cols.shape[:-1])  # reshape cannot find it where there are no examples
        cols = cols.reshape(rows, geometry.taps, groups, channels // groups)
        # XLA computes dyᵀ im2col(x) faster than its transpose.
        d = dy.reshape(rows, groups, filters // groups)
        return jnp.einsum("mgo,magc->goac", d, cols, preferred_element_type=dtype)

    if size == x.shape[0]:
        total = of_block(x, dy)
    else:
        zeros = jnp.zeros((groups, filters // groups, geometry.taps, channels // groups), dtype)
        blocks = in_blocks(x, size), in_blocks(dy, size)
        total, _ = lax.scan(lambda sum_, block: (sum_ + of_block(*block), None), varying_alike(zeros, x)[0], blocks)
    return jnp.moveaxis(total, (2, 3), (0, 1)).reshape(*geometry.kernel, channels // groups, filters).astype(x.dtype)


def times(cols: Array, w: Array, geometry: Geometry) -> Array:
    """Compute ``y[n, p, (g, o)] = Σ_ac cols[n, p, (a, g, c)] w[a, c, (g, o)]``."""
    groups, (*_, channels, filters), rows = geometry.groups, w.shape, math.prod(cols.shape[:-1])
    if groups == 1:  # XLA copies the operands of the general form below
        y = cols.reshape(rows, cols.shape[-1]) @ w.reshape(-1, filters)
    else:
        y = jnp.einsum(
            "magc,acgo->mgo",
            cols.reshape(rows, geometry.taps, groups, channels),
            w.reshape(geometry.taps, channels, groups, filters // groups),
        )
    return y.reshape(*cols.shape[:-1], filters)


def times_transposed(dy: Array, w: Array, geometry: Geometry) -> Array:
    """Compute ``cols[n, p, (a, g, c)] = Σ_o dy[n, p, (g, o)] w[a, c, (g, o)]``."""
    groups, (*_, channels, filters), rows = geometry.groups, w.shape, math.prod(dy.shape[:-1])
    if groups == 1:
        cols = dy.reshape(rows, filters) @ w.reshape(-1, filters).T
    else:
        cols = jnp.einsum(
            "mgo,acgo->magc",
            dy.reshape(rows, groups, filters // groups),
            w.reshape(geometry.taps, channels, groups, filters // groups),
        )
    return cols.reshape(*dy.shape[:-1], geometry.taps * groups * channels)


def block_size(geometry: Geometry, x: Shape, itemsize: int) -> int:
    """Return the examples of a block: a divisor of ``N`` such that its patches take at most ``BLOCK_BYTES``."""
    of_one = patch_entries(geometry, 1, x[-1]) * itemsize
    if is_pointwise(geometry) or any(map(is_symbolic, x)) or of_one * x[0] <= BLOCK_BYTES:
        return x[0]
    return next((d for d in range(max(BLOCK_BYTES // of_one, 1), 1, -1) if x[0] % d == 0), 1)


def is_pointwise(geometry: Geometry) -> bool:
    """Return whether the patches are the images themselves, so that nothing is copied."""
    return geometry.taps == max(geometry.stride) == 1 and geometry.image == geometry.output


def patch_entries(geometry: Geometry, examples: int, channels: int) -> int:
    """Return how many numbers the patches of all examples have, ``N · P · A · C``."""
    return examples * math.prod(geometry.output) * geometry.taps * channels


def in_blocks(a: Array, size: int) -> Array:
    """Return ``a (N, ...)`` as ``(N / size, size, ...)``."""
    return a.reshape(-1, size, *a.shape[1:])


def over_blocks(function: Callable[[Array], Array], a: Array, size: int) -> Array:
    """Return ``function(a)`` for a function of each example by itself, computed one block after the other."""
    if size == a.shape[0]:
        return function(a)
    y = lax.map(function, in_blocks(a, size))
    return y.reshape(a.shape[0], *y.shape[2:])
