"""The matrix of a convolution, and its singular values."""

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
    """Return the matrix ``T`` of a convolution: ``T @ x.ravel() == convolve(x[None], kernel, ...)[0].ravel()``.

    ``kernel (*A, C / groups, O)``, ``image_shape (*L, C)`` with its channels; ``T`` has shape ``(P · O, L · C)``, with
    ``T[(p, o), (i, c)] = kernel[a, c, o]`` where ``i = p · stride + a · dilation − low``, and zeros elsewhere. With one
    axis, one channel and one filter it is constant along its diagonals, a Toeplitz matrix; in general it consists of
    blocks of this kind. The backward pass to the image is its transpose: ``dx = Tᵀ dy``.

    It has ``P O L C`` entries, nearly all of them zero, and is meant for small images.
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
    """Return the singular values of the convolution as a linear map of an image ``(*L, C)``, largest first.

    The largest is the factor by which it can lengthen an image, and its backward pass ``dy``. They are computed from
    ``toeplitz`` at the cost ``O((P O) (L C)²)`` of a dense matrix.
    """
    return jnp.linalg.svd(
        toeplitz(kernel, image_shape, stride=stride, padding=padding, dilation=dilation, groups=groups),
        compute_uv=False,
    )


def circular_singular_values(kernel: Any, image_shape: Shape) -> Array:
    """Return the singular values of a circular convolution of an image ``(*L, C)`` with stride 1, largest first.

    The image is continued periodically, ``y[p, o] = Σ_ac x[(p + a) mod L, c] w[a, c, o]``. The Fourier transform splits
    this map into one ``C × O`` matrix per frequency, the transform of the kernel there. Their singular values together
    are those of the map: ``O(L C O (log L + min(C, O)))`` operations. The kernel
    must not be larger than the image.

    Source: Sedghi, Gupta and Long 2019, "The singular values of convolutional layers", theorem 6.
    """
    kernel = jnp.asarray(kernel)
    geometry = geometry_of_one("circular_singular_values", kernel, image_shape)
    transformed = jnp.fft.fftn(kernel, geometry.image, axes=range(geometry.rank))
    return jnp.sort(jnp.linalg.svd(transformed, compute_uv=False).ravel(), descending=True)


def geometry_of_one(place: str, kernel: Shaped, image_shape: Shape, *, groups: int = 1, **sizes: Any) -> Geometry:
    """Return the geometry for one image of shape ``(*L, C)``, checked against the kernel."""
    shape = tuple(image_shape)
    for size in shape:
        checks.positive_integer(place, "image_shape", size)
    check_operands(place, jax.ShapeDtypeStruct((1, *shape), kernel.dtype), kernel, groups)
    return geometry_of(place, shape[:-1], kernel.shape[:-2], groups=groups, **sizes)


def meetings(geometry: Geometry, channels: int, filters: int) -> Any:
    """Return the rows of ``T``, the columns of ``T`` and the entries of the kernel that belong together.

    They are positions in the ravelled arrays, one triple for each tap that lies inside of the image. ``channels`` are
    those of the kernel, ``C / groups``.
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
