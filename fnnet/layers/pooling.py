"""Pooling: one number for each window, channel by channel.

Every layer here takes ``x (N, L, C)`` or ``x (N, H, W, C)``, examples first and channels last. ``window`` and
``stride`` are one number for all spatial axes, or a sequence with one for each; a ``stride`` of None is the size of the
window, so that windows do not overlap. ``padding`` is "VALID" (none), "SAME" (``⌈length / stride⌉`` outputs), one
number for both ends of all spatial axes, or a sequence with a number or a pair ``(low, high)`` for each axis. Padding
is less than the window.

Windows are taken axis by axis, by shifted slices: the maximum over a window is the maximum over its rows of their
maxima, so that a window of ``k × k`` costs ``2 k`` operations for an output and not ``k²``. On a CPU this is also
several times faster than ``jax.lax.reduce_window``, most of all backward.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.convolution.geometry import Padding, Sizes, set_sizes
from fnnet.layers.windows import AxisWindows, check_spatial, spatial_windows
from fnnet.types import Array, DType, Params, Shaped


@configuration
class Pool:
    """The fields and methods that pooling layers with a window share."""

    window: Sizes
    stride: Sizes | None = None
    padding: Padding = "VALID"

    def __post_init__(self) -> None:
        set_sizes(self, "window", "stride", "padding")

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        return {}

    def windows(self, x: Shaped) -> tuple[AxisWindows, ...]:
        with checks.sizes_decided(repr(self), x.shape):
            return spatial_windows(repr(self), x, self.window, self.stride, self.padding)


@configuration
class MaxPool(Pool):
    """Max pooling, the largest entry of each window: ``y_o = max_k x_{stride · o + k}``. It has no parameters.

    At a tie the first of the equal entries in row-major order is taken, and it alone receives the gradient, as in XLA.
    Padding is never taken, not even before −∞; NaN always is. ``MaxPool(2)`` halves every spatial axis.
    """

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return self.with_index(x)[0]

    def with_index(self, x: Any) -> tuple[Array, Array]:
        """Return the maxima, and the row-major index of each within its window."""
        checks.floating(repr(self), "x", x)
        return maxima(jnp.asarray(x), self.windows(x))


@configuration
class AvgPool(Pool):
    """Average pooling, the mean of each window: ``y_o = 1/n_o Σ_k x_{stride · o + k}``. It has no parameters.

    ``n_o`` is the number of entries of ``x`` in the window, so that a constant stays the same at the borders. With
    ``count_padding=True`` it is the size of the window, zeros of the padding included (the default of PyTorch and
    flax). Without padding the two are equal.
    """

    count_padding: bool = False

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        checks.floating(repr(self), "x", x)
        windows = self.windows(x)
        total = jnp.asarray(x, checks.at_least_float32(x))
        for along in reversed(windows):
            total = reduce(jnp.add, along.slices(total, 0))
        return (total / self.counts(windows).astype(total.dtype)).astype(x.dtype)

    def counts(self, windows: tuple[AxisWindows, ...]) -> np.ndarray[Any, Any]:
        """Return ``n_o``, in a shape that divides ``y``."""
        if self.count_padding:
            return np.array(math.prod(along.size for along in windows))
        return reduce(np.multiply.outer, [along.covered for along in windows])[..., None]


@configuration
class GlobalAvgPool:
    """The mean over all spatial axes, ``(N, H, W, C) -> (N, C)``. It has no parameters.

    Source: Lin, Chen and Yan 2013, "Network in network", section 3.2.
    """

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        return {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        check_spatial("GlobalAvgPool", x)
        return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))


@configuration
class GlobalMaxPool:
    """The largest entry over all spatial axes, ``(N, H, W, C) -> (N, C)``; at a tie the first. It has no parameters."""

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        return {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return self.with_index(x)[0]

    def with_index(self, x: Any) -> tuple[Array, Array]:
        """Return the maxima, and the row-major index of each among the positions."""
        check_spatial("GlobalMaxPool", x)
        positions = jnp.reshape(x, (x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1]))
        index = first_maximum(positions)
        return jnp.take_along_axis(positions, index[:, None], axis=1)[:, 0], index


def maxima(x: Array, windows: tuple[AxisWindows, ...]) -> tuple[Array, Array]:
    """Return the maximum of each window and its row-major index within the window.

    Comparisons take one entry at a tie, and autodiff gives the gradient to it alone; ``jnp.maximum`` would divide the
    gradient among the equal entries.
    """
    index = jnp.zeros(x.shape, index_dtype(windows))
    unit = 1  # what one step along the axis adds to the row-major index
    for along in reversed(windows):
        values, indices = along.slices(x, -math.inf), along.slices(index, 0)
        x, index = next(values), next(indices)
        for offset, (value, at) in enumerate(zip(values, indices, strict=True), 1):
            better = ~(value <= x) & (x == x)  # larger, or the first NaN
            if along.low:  # a window that begins in the padding takes the first entry outside of it, whatever it is
                starts = along.first == offset
                better |= starts.reshape(along.on_axis(x.ndim, 1, along.outputs))
            x = jnp.where(better, value, x)
            index = jnp.where(better, at + np.asarray(offset * unit, index.dtype), index)
        unit *= along.size
    return x, index


def first_maximum(x: Array) -> Array:
    """Return ``argmax`` along axis 1, several times faster than ``jnp.argmax`` on a CPU. The first NaN wins."""
    x = jax.lax.stop_gradient(x)
    indices = jnp.arange(x.shape[1])[:, None]
    return jnp.where((x == x.max(1, keepdims=True)) | (x != x), indices, x.shape[1]).min(1)


def index_dtype(windows: tuple[AxisWindows, ...]) -> DType:
    """Return the smallest dtype that counts the entries of a window, and one more for those beyond it."""
    return np.min_scalar_type(math.prod(along.size for along in windows))
