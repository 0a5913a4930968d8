"""The rule of ``Flatten``."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.backprop.rule import RULES, Rule
from fnnet.layers import Flatten
from fnnet.types import Array, Params


def flatten_forward(layer: Flatten, params: Params, x: Array, *, key: Array | None, train: bool) -> tuple[Array, Array]:
    # Only the shape of x matters. Residuals are arrays, and one without entries carries it at no cost.
    return layer.apply(params, x), jnp.zeros((*x.shape, 0), x.dtype)


def flatten_backward(layer: Flatten, params: Params, shaped: Array, dy: Array) -> tuple[Params, Array]:
    """y is x with other indices  ⇒  dx is dy with the indices of x."""
    return {}, dy.reshape(shaped.shape[:-1])


RULES[Flatten] = Rule(flatten_forward, flatten_backward)
