"""Pooling: one number for each window, channel by channel.

Every layer here takes ``x (N, L, C)`` or ``x (N, H, W, C)``, examples first and channels last. ``window`` and
``stride`` are one number for all spatial axes or a tuple with one for each; a ``stride`` of None is the window itself,
so that windows do not overlap. ``padding`` is "VALID" (none), "SAME" (``⌈length / stride⌉`` outputs), one number for
both ends of every spatial axis, or a tuple with such a number or ``(low, high)`` for each; it is less than the window.

Windows are taken axis by axis, by shifted slices: a maximum over a window is the maximum over its rows of the maxima
along them, so that a window of ``k × k`` costs ``2 k`` operations for an output and not ``k²``. On CPU this is also
several times faster than ``jax.lax.reduce_window``, above all backward.
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
from fnnet.layers.windows import AxisWindows, spatial_windows
from fnnet.types import Array, DType, Params, Shaped


@configuration
class MaxPool:
    """The largest entry of each window, ``y_o = max_k x_{stride · o + k}``. No parameters.

    Among equals it is the first in row-major order that hands its value on and receives the gradient, as in XLA.
    Padding never wins, not even against −∞; NaN always does. ``MaxPool(2)`` halves every spatial axis.
    """

    window: Sizes
    stride: Sizes | None = None
    padding: Padding = "VALID"

    def __post_init__(self) -> None:
        set_sizes(self, "window", "stride", "padding")

    def init(self, key: Array, x: Shaped) -> Params:
        return {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return self.with_index(x)[0]

    def with_index(self, x: Any) -> tuple[Array, Array]:
        """The maxima and, for each, its place within the window, counted in row-major order."""
        checks.floating(repr(self), "x", x)
        return maxima(jnp.asarray(x), self.windows(x))

    def windows(self, x: Shaped) -> tuple[AxisWindows, ...]:
        return spatial_windows(repr(self), x, self.window, self.stride, self.padding)


@configuration
class AvgPool:
    """The mean of each window, ``y_o = 1/n_o Σ_k x_{stride · o + k}``. No parameters.

    ``n_o`` counts the entries of ``x`` in the window, so that a constant stays the same at the borders; with
    ``count_padding=True`` it is the size of the window, zeros of the padding included (the default of PyTorch and
    flax). Without padding both are the same.
    """

    window: Sizes
    stride: Sizes | None = None
    padding: Padding = "VALID"
    count_padding: bool = False

    def __post_init__(self) -> None:
        set_sizes(self, "window", "stride", "padding")

    def init(self, key: Array, x: Shaped) -> Params:
        return {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        checks.floating(repr(self), "x", x)
        windows = self.windows(x)
        total = jnp.asarray(x, checks.at_least_float32(x))
        for along in reversed(windows):
            total = reduce(jnp.add, along.slices(total, 0))
        return (total / self.counts(windows).astype(total.dtype)).astype(x.dtype)

    def counts(self, windows: tuple[AxisWindows, ...]) -> np.ndarray[Any, Any]:
        """``n_o``, in a shape that divides ``y``."""
        if self.count_padding:
            return np.array(math.prod(along.size for along in windows))
        return reduce(np.multiply.outer, [along.covered for along in windows])[..., None]

    def windows(self, x: Shaped) -> tuple[AxisWindows, ...]:
        return spatial_windows(repr(self), x, self.window, self.stride, self.padding)


@configuration
class GlobalAvgPool:
    """The mean over all spatial axes: ``(N, H, W, C) -> (N, C)``. No parameters.

    Source: Lin, Chen and Yan 2013, "Network in network", section 3.2.
    """

    def init(self, key: Array, x: Shaped) -> Params:
        return {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        check_spatial("GlobalAvgPool", x)
        return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))


@configuration
class GlobalMaxPool:
    """The largest entry over all spatial axes: ``(N, H, W, C) -> (N, C)``; the first among equals. No parameters."""

    def init(self, key: Array, x: Shaped) -> Params:
        return {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return self.with_index(x)[0]

    def with_index(self, x: Any) -> tuple[Array, Array]:
        """The maxima and, for each, its place among the positions, counted in row-major order."""
        check_spatial("GlobalMaxPool", x)
        positions = jnp.reshape(x, (x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1]))
        index = place_of_maximum(positions)
        return jnp.take_along_axis(positions, index[:, None], axis=1)[:, 0], index


def maxima(x: Array, windows: tuple[AxisWindows, ...]) -> tuple[Array, Array]:
    """The maximum of each window and its place within the window.

    By comparisons alone, whose derivative is that of the entry taken, where ``jnp.maximum`` would share it among
    equals.
    """
    index = jnp.zeros(x.shape, index_dtype(windows))
    place = 1  # what one step along the axis adds to a place counted in row-major order
    for along in reversed(windows):
        values, places = along.slices(x, -math.inf), along.slices(index, 0)
        x, index = next(values), next(places)
        for offset, (value, at) in enumerate(zip(values, places, strict=True), 1):
            better = ~(value <= x) & (x == x)  # larger, or the first NaN
            if along.low:  # what is left is padding where the window starts at this offset: it gives way to any value
                starts = along.first == offset
                better |= starts.reshape(along.on_axis(x.ndim, 1, along.outputs))
            x = jnp.where(better, value, x)
            index = jnp.where(better, at + np.asarray(offset * place, index.dtype), index)
        place *= along.size
    return x, index


def place_of_maximum(x: Array) -> Array:
    """``argmax`` along axis 1, by a maximum and a minimum: several times faster on CPU. The first NaN is a maximum."""
    x = jax.lax.stop_gradient(x)
    places = jnp.arange(x.shape[1])[:, None]
    return jnp.where((x == x.max(1, keepdims=True)) | (x != x), places, x.shape[1]).min(1)


def index_dtype(windows: tuple[AxisWindows, ...]) -> DType:
    """The smallest that counts the entries of a window and has one number more, for those beyond it."""
    return np.min_scalar_type(math.prod(along.size for along in windows))


def check_spatial(place: str, x: Any) -> None:
    checks.floating(place, "x", x)
    checks.require(
        len(x.shape) >= 3 and 0 not in x.shape[1:-1],
        f"{place}: x has shape {x.shape}; expected (N, L, C) or (N, H, W, C) with at least one position",
    )
