"""The three products of a convolution as products of matrices, a block of the examples at a time.

The patches of a block, one row of ``A · C`` numbers for each output position, are a matrix that is made, multiplied and
overwritten by the next one: it stays in the processor's cache, and the patches of all examples never exist together.
Where one image alone is too large, a block is a band of its rows. The letters are those of ``geometry``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from fnnet.convolution.geometry import Geometry
from fnnet.convolution.im2col import columns, image
from fnnet.shards import varying_alike
from fnnet.types import Array, DType, Shape

BLOCK_BYTES = 2**22  # of patches at a time: more leave the cache, fewer are small products of matrices


def convolution(x: Array, w: Array, geometry: Geometry) -> Array:
    """``y = patches(x) w``."""
    blocks = Blocks.of(geometry, len(x), x.shape[-1], w.shape[-1], x.dtype.itemsize)

    def put(at: At, y: Array) -> Array:
        cols = columns(blocks.of_image(padded, at), blocks.geometry)
        return lax.dynamic_update_slice(y, times(cols, w, geometry), at.output)

    padded = blocks.padded(x)
    return blocks.loop(put, zeros((len(x), *geometry.output, w.shape[-1]), x, x.dtype))


def input_gradient(dy: Array, w: Array, geometry: Geometry) -> Array:
    """``dx``: the products ``dy wᵀ``, each added to the image where its patch came from."""
    channels = w.shape[-2] * geometry.groups
    blocks = Blocks.of(geometry, len(dy), channels, w.shape[-1], dy.dtype.itemsize)

    def put(at: At, dx: Array) -> Array:
        part = image(times_transposed(blocks.of_output(dy, at), w, geometry), blocks.geometry)
        if blocks.bands > 1:  # bands of the image overlap
            part += blocks.of_image(dx, at)
        return lax.dynamic_update_slice(dx, part, at.image)

    return blocks.cropped(blocks.loop(put, zeros(blocks.padded_shape(channels), dy, dy.dtype)))


def kernel_gradient(x: Array, dy: Array, geometry: Geometry) -> Array:
    """``dw = patches(x)ᵀ dy``, summed over the blocks, in float32 at least; as ``dyᵀ patches(x)``, which is quicker."""
    groups = geometry.groups
    blocks = Blocks.of(geometry, len(x), x.shape[-1], dy.shape[-1], x.dtype.itemsize)
    dtype = x.dtype if x.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)

    def add(at: At, total: Array) -> Array:
        cols = columns(blocks.of_image(padded, at), blocks.geometry)
        cols = cols.reshape(-1, geometry.taps, groups, x.shape[-1] // groups)
        d = blocks.of_output(dy, at).reshape(-1, groups, dy.shape[-1] // groups)
        return total + jnp.einsum("mgo,magc->goac", d, cols, preferred_element_type=dtype)

    padded = blocks.padded(x)
    shape = (groups, dy.shape[-1] // groups, geometry.taps, x.shape[-1] // groups)
    total = jnp.moveaxis(blocks.loop(add, zeros(shape, x, dtype)), (2, 3), (0, 1))
    return total.reshape(*geometry.kernel, -1, dy.shape[-1]).astype(x.dtype)


def times(cols: Array, w: Array, geometry: Geometry) -> Array:
    """``y[n, p, (g, o)] = Σ_ac cols[n, p, (a, g, c)] w[a, c, (g, o)]``."""
    groups, (*_, channels, filters) = geometry.groups, w.shape
    if groups == 1:  # said as plainly as it is: for the general form XLA copies what it multiplies
        y = cols.reshape(-1, cols.shape[-1]) @ w.reshape(-1, filters)
    else:
        y = jnp.einsum(
            "magc,acgo->mgo",
            cols.reshape(-1, geometry.taps, groups, channels),
            w.reshape(geometry.taps, channels, groups, filters // groups),
        )
    return y.reshape(*cols.shape[:-1], filters)


def times_transposed(dy: Array, w: Array, geometry: Geometry) -> Array:
    """``cols[n, p, (a, g, c)] = Σ_o dy[n, p, (g, o)] w[a, c, (g, o)]``."""
    groups, (*_, channels, filters) = geometry.groups, w.shape
    if groups == 1:
        cols = dy.reshape(-1, filters) @ w.reshape(-1, filters).T
    else:
        cols = jnp.einsum(
            "mgo,acgo->magc",
            dy.reshape(-1, groups, filters // groups),
            w.reshape(geometry.taps, channels, groups, filters // groups),
        )
    return cols.reshape(*dy.shape[:-1], -1)


class At(NamedTuple):
    """Where a block begins, in the padded images and in the output."""

    image: tuple[Any, ...]
    output: tuple[Any, ...]


class Blocks(NamedTuple):
    """``examples`` at a time, all of each image or, one example at a time, a band of it along the first axis."""

    whole: Geometry
    geometry: Geometry  # of one block
    examples: int  # in a block
    bands: int  # of an image
    total: int

    @staticmethod
    def of(geometry: Geometry, examples: int, channels: int, filters: int, itemsize: int) -> Blocks:
        """Blocks of at most ``BLOCK_BYTES`` of patches, and of no more than the input and the output have, all equally
        large. Where the patches are the images themselves there is one block."""
        if is_pointwise(geometry):
            return Blocks(geometry, geometry, examples, 1, 1)
        positions, rows = math.prod(geometry.output), geometry.output[0]
        in_use = examples * (math.prod(geometry.image) * channels + positions * filters) * itemsize
        limit = min(BLOCK_BYTES, in_use)
        of_one = positions * geometry.taps * channels * itemsize
        size = largest_divisor(examples, limit // of_one)
        band = rows if of_one <= limit else largest_divisor(rows, limit // (of_one // rows))
        part = geometry
        if band < rows:
            reach = (band - 1) * geometry.stride[0] + geometry.span[0]
            part = replace(geometry, image=(reach, *geometry.image[1:]), padding=((0, 0), *geometry.padding[1:]))
        return Blocks(geometry, part, size, rows // band, examples // size * (rows // band))

    def loop(self, step: Callable[[At, Array], Array], start: Array) -> Array:
        """``step(where, value)`` for every block, from ``start`` on."""
        rest = (0,) * self.whole.rank
        rows, stride = self.geometry.output[0], self.whole.stride[0]

        def numbered(number: Any, value: Array) -> Array:
            example, band = number // self.bands * self.examples, number % self.bands * rows
            return step(At((example, band * stride, *rest), (example, band, *rest)), value)

        if self.total <= 1:
            return numbered(0, start) if self.total else start
        return lax.fori_loop(0, self.total, numbered, start)

    def of_image(self, x: Array, at: At) -> Array:
        return lax.dynamic_slice(x, at.image, (self.examples, *self.geometry.image, x.shape[-1]))

    def of_output(self, y: Array, at: At) -> Array:
        return lax.dynamic_slice(y, at.output, (self.examples, *self.geometry.output, y.shape[-1]))

    def padded_shape(self, channels: int) -> Shape:
        """The images, where they are taken in bands padded along the first axis as far as the kernel reaches."""
        rows = self.whole.image[0] if self.bands == 1 else self.reach
        return (self.total // self.bands * self.examples, rows, *self.whole.image[1:], channels)

    @property
    def reach(self) -> int:
        return (self.whole.output[0] - 1) * self.whole.stride[0] + self.whole.span[0]

    def padded(self, x: Array) -> Array:
        low = self.whole.padding[0][0]
        return x if self.bands == 1 else pad_rows(x, low, self.reach - low - self.whole.image[0])

    def cropped(self, x: Array) -> Array:
        low = self.whole.padding[0][0]
        return x if self.bands == 1 else pad_rows(x, -low, self.whole.image[0] + low - self.reach)


def is_pointwise(geometry: Geometry) -> bool:
    """Whether every patch is one position of the image, and every position one patch."""
    return geometry.taps == max(geometry.stride) == 1 and geometry.image == geometry.output


def zeros(shape: Shape, like: Array, dtype: DType) -> Array:
    """To be carried by a loop together with ``like``."""
    return varying_alike(jnp.zeros(shape, dtype), like)[0]


def pad_rows(x: Array, low: int, high: int) -> Array:
    """Zeros before and after the first spatial axis; rows taken away where negative."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (low, high, 0), *((0, 0, 0),) * (x.ndim - 2)])


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of ``number`` that is at most ``limit``, at least 1."""
    return next((d for d in range(min(number, limit), 0, -1) if number % d == 0), 1)
