"""The rule of ``Upsample``."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.backprop.rule import RULES, Rule, keep_nothing
from fnnet.layers import Upsample
from fnnet.layers.upsampling import interpolation
from fnnet.types import Array, Params


def upsample_backward(layer: Upsample, params: Params, residuals: tuple[()], dy: Array) -> tuple[Params, Array]:
    """Along each axis y = A x  ⇒  dx = Aᵀ dy; for "nearest", the sum over the repetitions of an entry."""
    for axis, factor in enumerate(layer.factors(dy.shape), 1):
        length = dy.shape[axis] // factor
        if layer.method == "nearest":
            dy = dy.reshape(*dy.shape[:axis], length, factor, *dy.shape[axis + 1 :]).sum(axis + 1)
        else:
            weights = jnp.asarray(interpolation(length, factor), dy.dtype)
            dy = jnp.moveaxis(jnp.tensordot(weights, dy, axes=(0, axis)), 0, axis)
    return {}, dy


RULES[Upsample] = Rule(keep_nothing, upsample_backward)
