"""A scale and a shift for each feature."""

from __future__ import annotations

from typing import Any

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.initializers import ones, zeros
from fnnet.types import Array, Initializer, Params, Shaped


@configuration
class Affine:
    """A scale and a shift for each feature, ``y = x ⊙ scale + shift``.

    Shapes: ``x (..., C)``, ``scale (C,)``, ``shift (C,)``, ``y (..., C)``. It starts as the identity. For inference
    ``fnnet.fold_batch_norm`` replaces ``BatchNorm`` with it.
    """

    scale_init: Initializer = ones
    shift_init: Initializer = zeros

    def init(self, key: Array, x: Shaped) -> Params:
        return scale_and_shift(repr(self), self, key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        check_features(repr(self), params, x)
        return x * params["scale"] + params["shift"]


def scale_and_shift(place: str, layer: Any, key: Array, x: Shaped) -> Params:
    """Return the parameters of a layer with ``scale_init`` and ``shift_init``, for the features of ``x``."""
    checks.floating(place, "x", x)
    checks.require(
        len(x.shape) > 0 and x.shape[-1] > 0,
        f"{place}: x has shape {x.shape}; expected its features on the last axis, at least one",
    )
    dtype, features = checks.dtype_of(x), (x.shape[-1],)
    return {"scale": layer.scale_init(key, features, dtype), "shift": layer.shift_init(key, features, dtype)}


def check_features(place: str, params: Params, x: Any) -> None:
    scale = params["scale"]
    checks.require(
        len(x.shape) > 0 and (x.shape[-1],) == scale.shape,
        f"{place}: x has shape {x.shape} but scale has shape {scale.shape}; expected {scale.shape[0]} features on the "
        f"last axis of x: reshape x, or init the parameters with inputs of this shape",
    )
    checks.same_dtype(place, "x", x, "scale", scale)
