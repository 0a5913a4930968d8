"""The rule of a layer in low precision."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.backprop.rule import RULES, Rule
from fnnet.layers import LowPrecision
from fnnet.layers.precision import times
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
    """y = r(f(r(θ), r(x))) with the rounding r  ⇒  f's derivative at the rounded numbers; r's own counts as 1.

    With a scale S, the backward pass is that of S dy, and what comes out of it is divided by S.
    """
    inner, like, like_x = residuals
    scaled = dy if layer.scale is None else times(dy, layer.scale)
    dparams, dx = RULES.look_up(layer.layer).backward(layer.layer, layer.low(params), inner, scaled.astype(like.dtype))

    def widened(gradient: Array, of: Any) -> Array:
        if not checks.is_float(gradient):
            return gradient
        wide = gradient.astype(checks.dtype_of(of))
        return wide if layer.scale is None else times(wide, 1 / jnp.asarray(layer.scale))

    return jax.tree.map(widened, dparams, params), widened(dx, like_x)


RULES[LowPrecision] = Rule(low_precision_forward, low_precision_backward)
