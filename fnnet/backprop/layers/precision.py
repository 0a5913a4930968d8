"""The rule of a layer in low precision."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.backprop.rule import RULES, Rule
from fnnet.layers import LowPrecision
from fnnet.types import Array, Params


def low_precision_forward(
    layer: LowPrecision, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, Any]:
    rule = RULES.look_up(layer.layer)
    y, residuals = rule.forward(layer.layer, layer.low(params), layer.low(x), key=key, train=train)
    like_x = jnp.zeros((), x.dtype if checks.is_float(x) else jnp.float32)
    return y.astype(layer.wide(x)), (residuals, jnp.zeros((), y.dtype), like_x)


def low_precision_backward(
    layer: LowPrecision, params: Params, residuals: tuple[Any, Array, Array], dy: Array
) -> tuple[Params, Array]:
    """y = r(f(r(θ), r(x))) with the rounding r  ⇒  f's derivative at the rounded numbers; that of r counts as 1."""
    inner, like_y, like_x = residuals
    dparams, dx = RULES.look_up(layer.layer).backward(layer.layer, layer.low(params), inner, dy.astype(like_y.dtype))

    def in_dtype_of(gradient: Array, like: Any) -> Array:
        return gradient.astype(checks.dtype_of(like)) if checks.is_float(gradient) else gradient

    return jax.tree.map(in_dtype_of, dparams, params), in_dtype_of(dx, like_x)


RULES[LowPrecision] = Rule(low_precision_forward, low_precision_backward)
