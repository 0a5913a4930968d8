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
        return scale_and_shift(self, key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        check_scale_and_shift(self, params, x)
        return x * params["scale"] + params["shift"]


def scale_and_shift(layer: Any, key: Array, x: Shaped) -> Params:
    """Return the parameters of a layer with ``scale_init`` and ``shift_init``, for the features of ``x``."""
    checks.init_arguments(repr(layer), key, x)
    features, dtype = (checks.features_of(repr(layer), x),), checks.dtype_of(x)
    return {"scale": layer.scale_init(key, features, dtype), "shift": layer.shift_init(key, features, dtype)}


def check_scale_and_shift(layer: Any, params: Params, x: Any) -> None:
    features = (checks.features_of(repr(layer), x),)
    checks.parameters(repr(layer), params, x, scale=features, shift=features)
