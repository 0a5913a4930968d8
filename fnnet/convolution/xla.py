"""The three products of a convolution by XLA's own operation: cuDNN on GPU, the matrix unit on TPU.

Each is a convolution again, as ``jax.lax.conv_general_dilated`` defines it; the letters are those of ``geometry``.
"""

from __future__ import annotations

from jax import lax

from fnnet.convolution.geometry import Geometry
from fnnet.convolution.kernel import exchanged
from fnnet.types import Array


def convolution(x: Array, w: Array, geometry: Geometry) -> Array:
    """``y[n, p, o] = Σ_ac x[n, p · stride + a · dilation − low, c] w[a, c, o]``."""
    spatial, last = tuple(range(1, x.ndim - 1)), x.ndim - 1
    return lax.conv_general_dilated(
        x,
        w,
        window_strides=geometry.stride,
        padding=geometry.padding,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
        dimension_numbers=lax.ConvDimensionNumbers(
            (0, last, *spatial), (last, last - 1, *range(last - 1)), (0, last, *spatial)
        ),
    )


def input_gradient(dy: Array, w: Array, geometry: Geometry) -> Array:
    """The full convolution of ``dy``, spread out by the stride, with the flipped kernel.

    ``dx[n, i, c] = Σ_ao dy[n, p, o] w[a, c, o]`` over ``p · stride = i + low − a · dilation``. With ``a' = A − 1 − a``
    this reads ``dy`` spread out at ``i + a' · dilation − (span − 1 − low)``.
    """
    spatial, last = tuple(range(1, dy.ndim - 1)), dy.ndim - 1
    flipped = lax.rev(w, tuple(range(geometry.rank)))
    padding = [
        (span - 1 - low, length + low - ((out - 1) * stride + 1))
        for span, (low, _), length, out, stride in zip(
            geometry.span, geometry.padding, geometry.image, geometry.output, geometry.stride, strict=True
        )
    ]
    return lax.conv_general_dilated(
        dy,
        exchanged(flipped, geometry.groups),
        window_strides=(1,) * geometry.rank,
        padding=padding,
        lhs_dilation=geometry.stride,
        rhs_dilation=geometry.dilation,
        feature_group_count=geometry.groups,
        dimension_numbers=lax.ConvDimensionNumbers(
            (0, last, *spatial), (last, last - 1, *range(last - 1)), (0, last, *spatial)
        ),
    )


def kernel_gradient(x: Array, dy: Array, geometry: Geometry) -> Array:
    """The correlation of ``x`` and ``dy``: stride and dilation exchange their parts, channels and examples too.

    ``dw[a, c, o] = Σ_np x[n, a · dilation + p · stride − low, c] dy[n, p, o]``.
    """
    spatial, last = tuple(range(1, x.ndim - 1)), x.ndim - 1
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
        dimension_numbers=lax.ConvDimensionNumbers(
            (last, 0, *spatial), (last, 0, *spatial), (last - 1, last, *range(last - 1))
        ),
    )
