"""The exchange of channels and filters of a kernel ``w (*A, C / groups, O)``."""

from __future__ import annotations

from fnnet.types import Array


def exchanged(w: Array, groups: int) -> Array:
    """Return ``w`` with channels and filters exchanged in each group, ``(*A, C/G, O) -> (*A, O/G, C)``."""
    *taps, channels, filters = w.shape
    split = w.reshape(*taps, channels, groups, filters // groups)
    return split.swapaxes(-3, -1).reshape(*taps, filters // groups, groups * channels)
