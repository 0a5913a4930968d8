"""Patches as the rows of a matrix, and the way back."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

from fnnet import checks
from fnnet.convolution.geometry import Geometry, Padding, Sizes, geometry_of, per_axis
from fnnet.types import Array, Shape


def im2col(x: Any, kernel_size: Sizes, *, stride: Sizes = 1, padding: Padding = "VALID", dilation: Sizes = 1) -> Array:
    """The patches of images ``x (N, *L, C)`` as rows: ``(N, *P, A · C)``, taps before channels.

    ``im2col(x, ...)[n, p, (a, c)] = x[n, p · stride + a · dilation − low, c]``, 0 beside the image. With it, a
    convolution is one product of matrices: ``im2col(x, w.shape[:-2], ...) @ w.reshape(-1, O)``.
    """
    x = jnp.asarray(x)
    checks.require(
        x.ndim >= 3, f"im2col: x has shape {x.shape}; expected (N, *image, C) with at least one spatial axis"
    )
    kernel = per_axis("im2col", "kernel_size", kernel_size, x.ndim - 2)
    geometry = geometry_of("im2col", x.shape[1:-1], kernel, stride=stride, padding=padding, dilation=dilation)
    return columns(x, geometry)


def col2im(
    cols: Any,
    image_shape: Shape,
    kernel_size: Sizes,
    *,
    stride: Sizes = 1,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
) -> Array:
    """The transpose of ``im2col``: every entry added to the position of the image that it was read from.

    ``cols (N, *P, A · C)``, ``image_shape`` the spatial axes ``L`` alone; gives ``(N, *L, C)``. What was read from the
    padding is dropped. ``Σ col2im(v) ⊙ x = Σ v ⊙ im2col(x)``; it is no inverse: where patches overlap, it adds.
    """
    cols, image_shape = jnp.asarray(cols), per_axis("col2im", "image_shape", image_shape)
    kernel = per_axis("col2im", "kernel_size", kernel_size, len(image_shape))
    geometry = geometry_of("col2im", image_shape, kernel, stride=stride, padding=padding, dilation=dilation)
    checks.require(
        cols.ndim == geometry.rank + 2 and cols.shape[1:-1] == geometry.output and cols.shape[-1] % geometry.taps == 0,
        f"col2im: cols has shape {cols.shape}; expected (N, {', '.join(map(str, geometry.output))}, "
        f"{geometry.taps} · C), as im2col makes it of images of shape {image_shape}",
    )
    return image(cols, geometry)


def columns(x: Array, geometry: Geometry) -> Array:
    """``im2col``, one spatial axis after the other from the last: the runs that are copied grow longer each time."""
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in geometry.padding), (0, 0, 0)])
    for axis in reversed(range(geometry.rank)):
        step, reach = geometry.stride[axis], (geometry.output[axis] - 1) * geometry.stride[axis] + 1
        starts = [a * geometry.dilation[axis] for a in range(geometry.kernel[axis])]
        x = jnp.concatenate([lax.slice_in_dim(x, s, s + reach, step, axis + 1) for s in starts], -1)
    return x


def image(cols: Array, geometry: Geometry) -> Array:
    """``col2im``, one spatial axis after the other from the first, as ``columns`` backwards."""
    zero = jnp.zeros((), cols.dtype)
    for axis in range(geometry.rank):
        step, (low, _), length = geometry.stride[axis], geometry.padding[axis], geometry.image[axis]
        reach = (geometry.output[axis] - 1) * step + 1
        pieces = jnp.split(cols, geometry.kernel[axis], -1)
        cols = zero
        for a, piece in enumerate(pieces):
            start = a * geometry.dilation[axis] - low
            config = [(0, 0, 0)] * piece.ndim
            config[axis + 1] = (start, length - start - reach, step - 1)
            cols = cols + lax.pad(piece, zero, config)
    return cols
