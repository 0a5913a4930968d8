"""The matrix of a convolution and its singular values."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.convolution.geometry import Geometry, Padding, Sizes, check_operands, geometry_of
from fnnet.types import Array, Shape, Shaped


def toeplitz(
    kernel: Any,
    image_shape: Shape,
    *,
    stride: Sizes = 1,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
    groups: int = 1,
) -> Array:
    """Return the matrix ``T`` for which ``T @ x.ravel() == convolve(x[None], kernel, ...)[0].ravel()``.

    The kernel is ``(*A, C / groups, O)``, and ``image_shape`` is ``(*L, C)``, with the channels. ``T`` has the shape
    ``(P · O, L · C)`` and the entries ``T[(p, o), (i, c)] = kernel[a, c, o]`` where
    ``i = p · stride + a · dilation − low``, and zeros elsewhere. With one axis, one channel, one filter and stride 1 it
    is a Toeplitz matrix, which is constant along its diagonals; in general it consists of such blocks. Its transpose is
    the backward pass to the image, ``dx = Tᵀ dy``.

    Nearly all of its ``P O L C`` entries are zero, so it is meant for small images.
    """
    kernel = jnp.asarray(kernel)
    geometry = geometry_of_one(
        "toeplitz", kernel, image_shape, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    rows, columns, of_kernel = meetings(geometry, kernel.shape[-2], kernel.shape[-1])
    shape = (math.prod(geometry.output) * kernel.shape[-1], math.prod(image_shape))
    return jnp.zeros(shape, kernel.dtype).at[rows, columns].set(kernel.ravel()[of_kernel], unique_indices=True)


def singular_values(
    kernel: Any,
    image_shape: Shape,
    *,
    stride: Sizes = 1,
    padding: Padding = "VALID",
    dilation: Sizes = 1,
    groups: int = 1,
) -> Array:
    """Return the singular values of a convolution as a linear map of an image ``(*L, C)``, largest first.

    The largest is the greatest factor by which the convolution can multiply the norm of an image, and its backward pass
    the norm of ``dy``. They are computed from ``toeplitz`` by ``O((P O) (L C)²)`` operations, as for any dense matrix.
    """
    return jnp.linalg.svd(
        toeplitz(kernel, image_shape, stride=stride, padding=padding, dilation=dilation, groups=groups),
        compute_uv=False,
    )


def circular_singular_values(kernel: Any, image_shape: Shape) -> Array:
    """Return the singular values of a circular convolution of an image ``(*L, C)`` with stride 1, largest first.

    The image is continued periodically, ``y[p, o] = Σ_ac x[(p + a) mod L, c] w[a, c, o]``. The Fourier transform splits
    this map into one matrix ``C × O`` for each frequency, which is the transform of the kernel at this frequency. The
    singular values of the map are those of all these matrices. This takes ``O(L C O (log L + min(C, O)))`` operations.
    The kernel must not be larger than the image.

    Source: Sedghi, Gupta and Long 2019, "The singular values of convolutional layers", theorem 6.
    """
    kernel = jnp.asarray(kernel)
    geometry = geometry_of_one("circular_singular_values", kernel, image_shape)
    transformed = jnp.fft.fftn(kernel, geometry.image, axes=range(geometry.rank))
    return jnp.sort(jnp.linalg.svd(transformed, compute_uv=False).ravel(), descending=True)


def geometry_of_one(place: str, kernel: Shaped, image_shape: Shape, *, groups: int = 1, **sizes: Any) -> Geometry:
    """Return the geometry for one image of shape ``(*L, C)``, after a check that the kernel matches it."""
    shape = tuple(image_shape)
    for size in shape:
        checks.positive_integer(place, "image_shape", size)
    check_operands(place, jax.ShapeDtypeStruct((1, *shape), kernel.dtype), kernel, groups)
    return geometry_of(place, shape[:-1], kernel.shape[:-2], groups=groups, **sizes)


def meetings(geometry: Geometry, channels: int, filters: int) -> Any:
    """Return the row and the column of every entry of ``T`` that comes from the kernel, and the index of that entry.

    The index is that in the ravelled kernel. There is one triple for each position of the output, each tap that lies
    inside of the image, each channel and each filter. ``channels`` is the number of channels of the kernel,
    ``C / groups``.
    """
    p, a = np.indices(geometry.output), np.indices(geometry.kernel)
    p, a = p.reshape(geometry.rank, -1, 1), a.reshape(geometry.rank, 1, -1)
    stride, dilation, low, length = (
        np.array(sizes).reshape(-1, 1, 1)
        for sizes in (geometry.stride, geometry.dilation, [low for low, _ in geometry.padding], geometry.image)
    )
    i = p * stride + a * dilation - low
    place, tap = np.nonzero(((i >= 0) & (i < length)).all(0))
    pixel = np.ravel_multi_index(tuple(i[:, place, tap]), geometry.image)
    c, o = np.arange(channels)[:, None], np.arange(filters)
    place, tap, pixel = (n[:, None, None] for n in (place, tap, pixel))
    channel = o // (filters // geometry.groups) * channels + c
    rows, columns = place * filters + o, pixel * (channels * geometry.groups) + channel
    return np.broadcast_arrays(rows, columns, (tap * channels + c) * filters + o)
