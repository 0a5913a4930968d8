"""Hand-written gradients of the penalties with respect to the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from fnnet import penalties
from fnnet.backprop.rule import Table
from fnnet.checks import in_dtype
from fnnet.paths import is_chosen, map_named
from fnnet.types import Array, Params


def l1(penalty: penalties.L1, w: Array) -> Array:
    """strength · Σ |w|  ⇒  strength · sign(w), with sign(0) = 0."""
    return in_dtype(penalty.strength, w.dtype) * jnp.sign(w)


def l2(penalty: penalties.L2, w: Array) -> Array:
    """strength / 2 · Σ w²  ⇒  strength · w."""
    return in_dtype(penalty.strength, w.dtype) * w


def elastic_net(penalty: penalties.ElasticNet, w: Array) -> Array:
    """l1 · Σ |w| + l2 / 2 · Σ w²  ⇒  l1 · sign(w) + l2 · w."""
    return in_dtype(penalty.l1, w.dtype) * jnp.sign(w) + in_dtype(penalty.l2, w.dtype) * w


PENALTY_GRADIENTS: Table[Callable[[Any, Array], Array]] = Table(
    "penalty", "PENALTY_GRADIENTS", "gradient(penalty, weight)"
)
PENALTY_GRADIENTS |= {
    penalties.L1: l1,
    penalties.L2: l2,
    penalties.ElasticNet: elastic_net,
}


def penalty_gradient(penalty: Any, params: Params) -> Params:
    """Return the gradient of ``penalty(params)``, in the structure of ``params``: zero where ``where`` leaves out."""
    gradient = PENALTY_GRADIENTS.look_up(penalty)

    def leaf(name: str, w: Array) -> Array:
        return gradient(penalty, w) if is_chosen(penalty.where, name, w) else jnp.zeros_like(w)

    return map_named(leaf, params)
