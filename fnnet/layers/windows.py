"""Windows that slide over the spatial axes of ``x (N, L, C)`` or ``x (N, H, W, C)``.

Along an axis of ``length`` entries, padded by ``low`` and ``high``, output ``o`` sees the padded positions
``stride · o + k`` for the offsets ``k = 0 .. size − 1``. There are ``⌊(low + length + high − size) / stride⌋ + 1``
outputs. All of this is known while tracing. Sizes and padding are given as to convolutions, see
``fnnet.convolution.geometry``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.convolution.geometry import Padding, Sizes, explicit_padding, per_axis, same_padding
from fnnet.types import Array, Shaped


class AxisWindows(NamedTuple):
    """The windows along one axis of an array."""

    axis: int
    length: int
    size: int
    stride: int
    low: int
    high: int

    @property
    def outputs(self) -> int:
        """The number of windows, which is the length of the output."""
        return (self.low + self.length + self.high - self.size) // self.stride + 1

    @property
    def steps(self) -> int:
        """The number of strides from the start of the padded axis to the end of ``x``, rounded up."""
        return -(-(self.low + self.length) // self.stride)

    @property
    def reach(self) -> int:
        """The largest number of windows that see the same position."""
        return -(-self.size // self.stride)

    @property
    def first(self) -> np.ndarray[Any, Any]:
        """The first offset of each window that is not in the padding."""
        return np.maximum(self.low - self.stride * np.arange(self.outputs), 0)

    @property
    def covered(self) -> np.ndarray[Any, Any]:
        """The number of offsets of each window that are not in the padding."""
        start = self.stride * np.arange(self.outputs) - self.low
        return np.minimum(start + self.size, self.length) - np.maximum(start, 0)

    def slices(self, x: Array, fill: float) -> Iterator[Array]:
        """Yield, for one offset after the other, the entries of all windows there, with ``fill`` in the padding."""
        if self.low or self.high:
            x = jax.lax.pad(x, jnp.asarray(fill, x.dtype), self.on_axis(x.ndim, (0, 0, 0), (self.low, self.high, 0)))
        span = self.stride * (self.outputs - 1) + 1
        for offset in range(self.size):
            yield jax.lax.slice_in_dim(x, offset, offset + span, self.stride, self.axis)

    def on_axis(self, rank: int, others: Any, here: Any) -> list[Any]:
        """Return a list with ``here`` for this axis of an array and ``others`` for its other axes."""
        return [here if axis == self.axis else others for axis in range(rank)]


def spatial_windows(
    place: str, x: Shaped, window: Sizes, stride: Sizes | None, padding: Padding
) -> tuple[AxisWindows, ...]:
    """Return the windows along each spatial axis of ``x``. A ``stride`` of None is the size of the window.

    A window that does not fit raises, and so does padding so wide that a window would see nothing else.
    """
    rank = len(x.shape) - 2
    checks.require(rank >= 1, f"{place}: x has shape {x.shape}; expected (N, L, C) or (N, H, W, C)")
    sizes = per_axis(place, "window", window, rank)
    strides = sizes if stride is None else per_axis(place, "stride", stride, rank)
    same = padding == "SAME"
    pairs = same_padding(x.shape[1:-1], sizes, strides) if same else explicit_padding(place, padding, rank)
    windows = []
    for i, (length, size, step, (low, high)) in enumerate(zip(x.shape[1:-1], sizes, strides, pairs, strict=True)):
        checks.require(
            length > 0 and size <= low + length + high,
            f"{place}: x has shape {x.shape} and padding {(low, high)} on axis {i + 1}, where a window of {size} does "
            f"not fit; expected at least {max(size - low - high, 1)} entries: use a smaller window or more padding",
        )
        checks.require(
            low < size and high < size,
            f"{place}: padding {(low, high)} on axis {i + 1} is not less than the window of {size}: a window would see "
            f"nothing but padding; use less padding",
        )
        windows.append(AxisWindows(i + 1, length, size, step, low, high))
    return tuple(windows)


def check_spatial(place: str, x: Any) -> None:
    """Raise unless ``x`` is of floating point and has spatial axes, none of them empty."""
    checks.floating(place, "x", x)
    checks.require(
        len(x.shape) >= 3 and 0 not in x.shape[1:-1],
        f"{place}: x has shape {x.shape}; expected (N, L, C) or (N, H, W, C) with at least one position",
    )
