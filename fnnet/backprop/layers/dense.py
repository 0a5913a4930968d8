"""The rule of ``Dense``."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.backprop.rule import RULES, Rule, keep_input
from fnnet.layers import Dense
from fnnet.types import Array, Params


def dense_backward(layer: Dense, params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
    """y_h = Σ_d x_d w_dh + b_h for each example n  ⇒  dw = Σ_n x_nᵀ dy_n,  db = Σ_n dy_n,  dx = dy wᵀ."""
    dparams = {"w": jnp.einsum("...d,...h->dh", x, dy)}
    if layer.use_bias:
        dparams["b"] = jnp.einsum("...h->h", dy)
    return dparams, dy @ params["w"].T


RULES[Dense] = Rule(keep_input, dense_backward)
