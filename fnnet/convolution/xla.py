"""The convolution and its two transposes by XLA's own operation, which uses cuDNN on a GPU and the MXU of a TPU.

Each of the three is a convolution as ``jax.lax.conv_general_dilated`` defines it. The index letters are explained in
``geometry``.
"""

from __future__ import annotations

from jax import lax

from fnnet.convolution.geometry import Geometry
from fnnet.convolution.kernel import exchanged
from fnnet.types import Array


def convolution(x: Array, w: Array, geometry: Geometry) -> Array:
    """Compute ``y[n, p, o] = Σ_ac x[n, p · stride + a · dilation − low, c] w[a, c, o]``."""
    return lax.conv_general_dilated(
        x,
        w,
        window_strides=geometry.stride,
        padding=geometry.padding,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
        dimension_numbers=axes_last(geometry.rank),
    )


def input_gradient(dy: Array, w: Array, geometry: Geometry) -> Array:
    """Compute ``dx[n, i, c] = Σ_ao dy[n, p, o] w[a, c, o]`` over ``p · stride = i + low − a · dilation``."""
    return full_convolution(dy, flipped(w, geometry), geometry)


def flipped(w: Array, geometry: Geometry) -> Array:
    """Return the kernel ``(*A, O/G, C)`` with the taps in reverse, ``a' = A − 1 − a``, and channels as its filters."""
    return exchanged(lax.rev(w, tuple(range(geometry.rank))), geometry.groups)


def full_convolution(dy: Array, flipped: Array, geometry: Geometry) -> Array:
    """Compute ``input_gradient`` as a convolution of ``dy``, dilated by the stride, with the flipped kernel.

    Tap ``a'`` of output ``i`` reads position ``i + a' · dilation − (span − 1 − low)`` of the dilated ``dy``.
    """
    padding = [
        (span - 1 - low, length + low - ((out - 1) * stride + 1))
        for span, (low, _), length, out, stride in zip(
            geometry.span, geometry.padding, geometry.image, geometry.output, geometry.stride, strict=True
        )
    ]
    return lax.conv_general_dilated(
        dy,
        flipped,
        window_strides=(1,) * geometry.rank,
        padding=padding,
        lhs_dilation=geometry.stride,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
        dimension_numbers=axes_last(geometry.rank),
    )


def kernel_gradient(x: Array, dy: Array, geometry: Geometry) -> Array:
    """Compute ``dw[a, c, o] = Σ_np x[n, a · dilation + p · stride − low, c] dy[n, p, o]``."""
    rank = geometry.rank
    spatial, last = tuple(range(1, rank + 1)), rank + 1
    axes = lax.ConvDimensionNumbers((last, 0, *spatial), (last, 0, *spatial), (rank, last, *range(rank)))
    return correlation(x, dy, geometry, axes)


def correlation(x: Array, dy: Array, geometry: Geometry, axes: lax.ConvDimensionNumbers) -> Array:
    """Compute ``kernel_gradient`` as a convolution of ``x`` with ``dy`` as its kernel.

    Stride and dilation exchange their roles, and channels and examples do, too.
    """
    padding = [
        (low, (taps - 1) * dilation + (out - 1) * stride + 1 - length - low)
        for taps, dilation, out, stride, length, (low, _) in zip(
            geometry.kernel,
            geometry.dilation,
            geometry.output,
            geometry.stride,
            geometry.image,
            geometry.padding,
            strict=True,
        )
    ]
    return lax.conv_general_dilated(
        x,
        dy,
        window_strides=geometry.dilation,
        padding=padding,
        rhs_dilation=geometry.stride,
        batch_group_count=geometry.groups,
        dimension_numbers=axes,
    )


def axes_last(rank: int) -> lax.ConvDimensionNumbers:
    """Return the axes of images ``(N, *L, C)`` and kernels ``(*A, C, O)`` in JAX's notation."""
    spatial, last = tuple(range(1, rank + 1)), rank + 1
    return lax.ConvDimensionNumbers((0, last, *spatial), (last, rank, *range(rank)), (0, last, *spatial))
