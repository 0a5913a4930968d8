"""The rule of ``Affine``."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.backprop.rule import RULES, Rule, keep_input
from fnnet.layers import Affine
from fnnet.types import Array, Params


def affine_backward(layer: Affine, params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
    """y = x ⊙ scale + shift  ⇒  dscale = Σ_n x_n ⊙ dy_n,  dshift = Σ_n dy_n,  dx = dy ⊙ scale."""
    return scale_and_shift_gradients(x, dy), dy * params["scale"]


def scale_and_shift_gradients(x: Array, dy: Array) -> Params:
    """Return ``dscale`` and ``dshift``, summed over all axes but the last."""
    return {"scale": jnp.einsum("...c,...c->c", x, dy), "shift": jnp.einsum("...c->c", dy)}


RULES[Affine] = Rule(keep_input, affine_backward)
