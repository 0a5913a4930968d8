"""Depthwise convolutions as sums over the taps of the kernel: each term is a shifted image times a vector.

XLA's CPU backend computes a convolution in many groups by plain loops, and patches of one channel make no products of
matrices. The terms of the sum are read, multiplied and added in one pass over the output, along the channels, which are
whole vectors of the processor. The letters are those of ``fnnet.convolution.geometry``.

Measured: float32, milliseconds of the faster of XLA and patches / of taps, jax 0.10.2. X is an Intel Xeon at 2.5 GHz,
Cascade Lake, AVX-512, 2 cores beside other work; E is one core of an AMD EPYC without AVX-512, where a first form of
the sums was tried, and only all three operations together were measured before.

    ==================================  ================  ================  ================
    images, channels, kernel            forward           input gradient    kernel gradient
    ==================================  ================  ================  ================
    32 of 32², 32, 3²                 X  38 / 1.6         32 / 1.6          42 / 14
                                      E  in all 104 to 255 / 1.3, 1.3, 9
    32 of 16², 64, 3²                 X  55 / 1.7         4.9 / 1.3         35 / 2.2
                                      E                   / 0.5, 0.5, 1.7
    16 of 14², 256, 7²                X  213 / 8.3        122 / 7.9         487 / 19
                                      E  in all 804 / 7, 7, 20
    8 of 56², 96, 7²                  X  710 / 19         288 / 21          1999 / 54
    16 of 1024, 64, 5                 X  217 / 1.8        10 / 1.5          15 / 3.5
    32 of 32², 64, 3², by 2           X  47 / 3.4         25 / 4.7          40 / 6.3
    4 of 16³, 16, 3³                  X  238 / 1.4        19 / 1.1          95 / 11
    64 of 28², 8, 3²                  X  19 / 2.0         11 / 2.1          17 / 2.1
    ==================================  ================  ================  ================

Try without it from jax 0.11 on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import reduce

import jax.numpy as jnp
from jax import lax

from fnnet.checks import at_least_float32, is_symbolic
from fnnet.convolution.geometry import Geometry
from fnnet.shards import varying_alike
from fnnet.types import Array, Shape

BLOCK_BYTES = 2**19  # of the sums of all taps, which stay in the cache while the rows of a block pass
MANY_TAPS = 121  # the program has an operation for each tap: compiling more of them takes too long
FEW_CHANNELS = 8  # fewer of them do not fill a vector of the processor


def is_faster(first: Shape, second: Shape, geometry: Geometry) -> bool:
    """Return whether an operation on operands of these shapes is a depthwise convolution that is faster by taps."""
    channels = first[-1]
    depthwise = geometry.groups == channels == second[-1]
    return depthwise and channels >= FEW_CHANNELS and geometry.taps <= MANY_TAPS and not any(map(is_symbolic, first))


def convolution(x: Array, w: Array, geometry: Geometry) -> Array:
    """Compute ``y[n, p, o] = Σ_a x[n, p · stride + a · dilation − low, o] w[a, o]``."""
    padded = with_edges(x, [(*pair, 0) for pair in geometry.padding])
    terms = (
        wide(shifted(padded, offset, geometry.output, geometry.stride)) * wide(w[(*tap, 0)])
        for tap, offset in taps(geometry)
    )
    return reduce(jnp.add, terms).astype(x.dtype)


def input_gradient(dy: Array, w: Array, geometry: Geometry) -> Array:
    """Compute ``dx[n, i, c] = Σ_a dy[n, p, c] w[a, c]`` over ``p · stride = i + low − a · dilation``."""
    sizes = zip(geometry.span, geometry.padding, geometry.image, geometry.output, geometry.stride, strict=True)
    edges = [(span - 1 - low, length + low - (out - 1) * by - 1, by - 1) for span, (low, _), length, out, by in sizes]
    padded, ones = with_edges(dy, edges), (1,) * geometry.rank
    terms = (
        wide(shifted(padded, [s - 1 - o for s, o in zip(geometry.span, offset, strict=True)], geometry.image, ones))
        * wide(w[(*tap, 0)])
        for tap, offset in taps(geometry)
    )
    return reduce(jnp.add, terms).astype(dy.dtype)


def kernel_gradient(x: Array, dy: Array, geometry: Geometry) -> Array:
    """Compute ``dw[a, c] = Σ_np x[n, p · stride + a · dilation − low, c] dy[n, p, c]``.

    The products of a block of rows are added to one array for each tap, whose positions are added up at the end: XLA
    adds the positions of a single array by a loop without vectors.
    """
    padded = with_edges(x, [(*pair, 0) for pair in geometry.padding])
    size = block_size(geometry, x.shape[-1] * 4)
    blocks = geometry.output[0] // size
    output, stride = (size, *geometry.output[1:]), geometry.stride
    rows = (size - 1) * stride[0] + geometry.span[0]

    def add(i: Array, totals: list[Array]) -> list[Array]:
        n, row = i // blocks, i % blocks * size
        image = block_of(padded, n, row * stride[0], rows)
        d = block_of(dy, n, row, size)
        products = [wide(shifted(image, offset, output, stride)) * wide(d) for _, offset in taps(geometry)]
        return [total + product[0] for total, product in zip(totals, products, strict=True)]

    zeros = varying_alike(wide(jnp.zeros((*output, x.shape[-1]), x.dtype)), x, dy)[0]
    totals = lax.fori_loop(0, x.shape[0] * blocks, add, [zeros] * geometry.taps)
    each = [total.sum(tuple(range(geometry.rank))) for total in totals]
    return jnp.stack(each).reshape(*geometry.kernel, 1, x.shape[-1]).astype(x.dtype)


def block_size(geometry: Geometry, bytes_per_position: int) -> int:
    """Return the rows of a block: a divisor of ``P`` along the first axis such that its sums stay in the cache."""
    of_row = geometry.taps * math.prod(geometry.output[1:]) * bytes_per_position
    rows = geometry.output[0]
    return next((d for d in range(min(max(BLOCK_BYTES // of_row, 1), rows), 1, -1) if rows % d == 0), 1)


def block_of(a: Array, n: Array, row: Array, rows: int) -> Array:
    """Return some rows of one image, ``(1, rows, ..., C)``."""
    return lax.dynamic_slice(a, (n, row, *[0] * (a.ndim - 2)), (1, rows, *a.shape[2:]))


def taps(geometry: Geometry) -> Iterator[tuple[Shape, Shape]]:
    """Yield every tap of the kernel, and its offset in the padded image."""
    for tap in itertools.product(*map(range, geometry.kernel)):
        yield tap, tuple(a * d for a, d in zip(tap, geometry.dilation, strict=True))


def with_edges(a: Array, edges: list[tuple[int, int, int]]) -> Array:
    """Return images with ``(low, high, between)`` zeros along each axis."""
    return lax.pad(a, jnp.zeros((), a.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def shifted(a: Array, offset: Shape | list[int], size: Shape, stride: Shape) -> Array:
    """Return ``size`` positions of the images from ``offset`` on, every ``stride``-th."""
    limit = [o + (n - 1) * s + 1 for o, n, s in zip(offset, size, stride, strict=True)]
    return lax.slice(a, (0, *offset, 0), (a.shape[0], *limit, a.shape[-1]), (1, *stride, 1))


def wide(a: Array) -> Array:
    """Return the array in at least float32, in which products are added."""
    return a.astype(at_least_float32(a))
