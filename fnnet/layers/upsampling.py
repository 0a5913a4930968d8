"""Upsampling: larger images."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.convolution.geometry import Sizes, per_axis, set_sizes
from fnnet.layers.windows import check_spatial
from fnnet.types import Array, Params, Shape, Shaped


@configuration
class Upsample:
    """Makes every spatial axis ``factor`` times as long, ``(N, H, W, C) -> (N, factor H, factor W, C)``.

    ``factor`` is one number for all spatial axes, or a sequence with one for each. "nearest" repeats every entry,
    ``y_i = x_{⌊i / factor⌋}``. "linear" interpolates between the centres of the entries, axis by axis (bilinear on
    images): ``y_i`` is the value at ``(i + ½) / factor − ½``, constant beyond the outermost centres (PyTorch's
    ``align_corners=False``). There are no parameters.
    """

    factor: Sizes
    method: Literal["nearest", "linear"] = "nearest"

    def __post_init__(self) -> None:
        set_sizes(self, "factor")
        checks.require(
            self.method in ("nearest", "linear"),
            f"Upsample: method is {self.method!r}; expected 'nearest' or 'linear'",
        )

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        return {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        check_spatial(repr(self), x)
        x = jnp.asarray(x)
        for axis, factor in enumerate(self.factors(x.shape), 1):
            x = jnp.repeat(x, factor, axis) if self.method == "nearest" else interpolated(x, axis, factor)
        return x

    def factors(self, shape: Shape) -> tuple[int, ...]:
        """Return the factor of each spatial axis, for an ``x`` of this shape."""
        return per_axis(repr(self), "factor", self.factor, len(shape) - 2)


def interpolated(x: Array, axis: int, factor: int) -> Array:
    weights = jnp.asarray(interpolation(x.shape[axis], factor), x.dtype)
    return jnp.moveaxis(jnp.tensordot(weights, x, axes=(1, axis)), 0, axis)


def interpolation(length: int, factor: int) -> np.ndarray[Any, Any]:
    """Return the matrix ``A (factor · length, length)`` of linear interpolation along one axis, ``y = A x``."""
    position = np.clip((np.arange(factor * length) + 0.5) / factor - 0.5, 0, length - 1)
    return np.maximum(1 - np.abs(position[:, None] - np.arange(length)), 0)
