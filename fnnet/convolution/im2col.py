"""Patches of images as the rows of a matrix, and the transpose of the linear map that collects them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from fnnet import checks
from fnnet.convolution.geometry import Geometry, Padding, Sizes, geometry_of, per_axis
from fnnet.types import Array, Shape

FEW_TAPS = 9


def im2col(x: Any, kernel_size: Sizes, *, stride: Sizes = 1, padding: Padding = "VALID", dilation: Sizes = 1) -> Array:
    """Return the patches of images ``x (N, *L, C)`` as rows ``(N, *P, A · C)``, with taps before channels.

    ``im2col(x, ...)[n, p, (a, c)] = x[n, p · stride + a · dilation − low, c]``, which is 0 outside of the image.
    A convolution is then one product of matrices, ``im2col(x, w.shape[:-2], ...) @ w.reshape(-1, O)``.
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
    """Return the transpose of ``im2col``, which adds every entry to the position of the image from which it was read.

    ``cols`` is ``(N, *P, A · C)``, ``image_shape`` has the spatial axes ``L`` only, and the result is ``(N, *L, C)``.
    Entries that were read from the padding are dropped. For all ``x`` and ``v``,
    ``Σ col2im(v) ⊙ x = Σ v ⊙ im2col(x)``. It is not the inverse of ``im2col``, because it adds where patches overlap.
    """
    cols, image_shape = jnp.asarray(cols), per_axis("col2im", "image_shape", image_shape)
    kernel = per_axis("col2im", "kernel_size", kernel_size, len(image_shape))
    geometry = geometry_of("col2im", image_shape, kernel, stride=stride, padding=padding, dilation=dilation)
    checks.require(
        cols.ndim == geometry.rank + 2 and cols.shape[1:-1] == geometry.output and cols.shape[-1] % geometry.taps == 0,
        f"col2im: cols has shape {cols.shape}; expected (N, {', '.join(map(str, geometry.output))}, "
        f"{geometry.taps} · C), the shape that im2col returns for images of shape {image_shape}",
    )
    return image(cols, geometry)


def columns(x: Array, geometry: Geometry) -> Array:
    """Compute ``im2col`` by concatenating the image shifted to every tap."""
    zero = jnp.zeros((), x.dtype)
    x = lax.pad(x, zero, [(0, 0, 0), *((low, high, 0) for low, high in geometry.padding), (0, 0, 0)])
    strides, shifted = (1, *geometry.stride, 1), []
    for tap in np.ndindex(*geometry.kernel):
        start = [a * d for a, d in zip(tap, geometry.dilation, strict=True)]
        sizes = zip(start, geometry.output, geometry.stride, strict=True)
        limit = [low + (out - 1) * step + 1 for low, out, step in sizes]
        shifted.append(lax.slice(x, (0, *start, 0), (x.shape[0], *limit, x.shape[-1]), strides))
    return lax.concatenate(shifted, x.ndim - 1)


def image(cols: Array, geometry: Geometry) -> Array:
    """Compute ``col2im`` by shifting the entries of every tap back and adding them.

    A few taps are added at once. Many taps are added along one axis after the other, because after each axis fewer
    numbers are left.
    """
    axes = range(geometry.rank)
    for stage in [axes] if geometry.taps <= FEW_TAPS else [[axis] for axis in axes]:
        cols = added_up(cols, geometry, stage)
    return cols


def added_up(cols: Array, geometry: Geometry, stage: Sequence[int]) -> Array:
    """Return the sum over the taps along the axes of ``stage``, each shifted back."""
    taps = list(np.ndindex(*(geometry.kernel[axis] for axis in stage)))
    shifted = []
    for tap, piece in zip(taps, jnp.split(cols, len(taps), -1), strict=True):
        config = [(0, 0, 0)] * cols.ndim
        for a, axis in zip(tap, stage, strict=True):
            step, start = geometry.stride[axis], a * geometry.dilation[axis] - geometry.padding[axis][0]
            reach = (geometry.output[axis] - 1) * step + 1
            config[axis + 1] = (start, geometry.image[axis] - start - reach, step - 1)
        shifted.append(lax.pad(piece, jnp.zeros((), cols.dtype), config))
    return reduce(jnp.add, shifted)
