"""The rules of the layers that add positions."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.backprop.rule import RULES, Rule, keep_nothing
from fnnet.layers.positions import LearnedPositions, SinusoidalPositions
from fnnet.types import Array, Params


def sinusoidal_positions_backward(
    layer: SinusoidalPositions, params: Params, residuals: tuple[()], dy: Array
) -> tuple[Params, Array]:
    """y = x + p with a constant p  ⇒  dx = dy."""
    return {}, dy


def learned_positions_backward(
    layer: LearnedPositions, params: Params, residuals: tuple[()], dy: Array
) -> tuple[Params, Array]:
    """y_nt = x_nt + table_t  ⇒  dx = dy and dtable_t = Σ_n dy_nt, 0 at positions without a step."""
    return {"table": jnp.pad(dy.sum(0), ((0, layer.length - dy.shape[1]), (0, 0)))}, dy


RULES[SinusoidalPositions] = Rule(keep_nothing, sinusoidal_positions_backward)
RULES[LearnedPositions] = Rule(keep_nothing, learned_positions_backward)
