"""Flattening."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.types import Array, Params, Shaped


@configuration
class Flatten:
    """Joins all axes after the first, ``(N, d₁, d₂, ...) -> (N, d₁ d₂ ...)``. It has no parameters."""

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        return {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        checks.an_array("Flatten()", "x", x)
        checks.require(len(x.shape) > 0, "Flatten: x is a scalar; expected an array with examples on its first axis")
        return jnp.reshape(x, (x.shape[0], math.prod(x.shape[1:])))
