"""Noise in training."""

from __future__ import annotations

from typing import Any

import jax

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.types import Array, Params, Scalar, Shaped


@configuration
class GaussianNoise:
    """Gaussian noise: in training ``y = x + stddev · n`` with ``n`` standard normal, else ``y = x``.

    It acts as a penalty: to second order in ``stddev ≥ 0``, half its square times the trace of the Hessian of the cost
    with respect to ``x`` is added to the cost (Bishop 1995, "Training with noise is equivalent to Tikhonov
    regularization"). There are no parameters. Training needs a key.
    """

    stddev: Scalar

    def __post_init__(self) -> None:
        checks.in_range("GaussianNoise", "stddev", self.stddev, 0, float("inf"), open_high=True)
        object.__setattr__(self, "stddev", checks.python_number(self.stddev))

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        return {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        if not train:
            return checks.array(repr(self), "x", x)
        checks.floating(repr(self), "x", x)
        dtype = checks.dtype_of(x)
        stddev = checks.in_dtype(self.stddev, dtype)
        return x + stddev * jax.random.normal(checks.key_given(repr(self), key), x.shape, dtype)
