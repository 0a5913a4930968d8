"""Hand-written gradients of the penalties with respect to the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from fnnet import penalties
from fnnet.binding import name_of
from fnnet.paths import map_named
from fnnet.types import Array, Params


def l1(penalty: penalties.L1, w: Array) -> Array:
    """strength · Σ |w|  ⇒  strength · sign(w), with sign(0) = 0."""
    return penalty.strength * jnp.sign(w)


def l2(penalty: penalties.L2, w: Array) -> Array:
    """strength / 2 · Σ w²  ⇒  strength · w."""
    return penalty.strength * w


def elastic_net(penalty: penalties.ElasticNet, w: Array) -> Array:
    """l1 · Σ |w| + l2 / 2 · Σ w²  ⇒  l1 · sign(w) + l2 · w."""
    return penalty.l1 * jnp.sign(w) + penalty.l2 * w


PENALTY_GRADIENTS: dict[type, Callable[[Any, Array], Array]] = {  # (penalty, weight) -> its gradient
    penalties.L1: l1,
    penalties.L2: l2,
    penalties.ElasticNet: elastic_net,
}


def penalty_gradient(penalty: Any, params: Params) -> Params:
    """Return the gradient of ``penalty(params)`` in the structure of ``params``, 0 for those that do not count."""
    try:
        gradient = PENALTY_GRADIENTS[type(penalty)]
    except KeyError:
        name, mend = type(penalty).__name__, "add one"
        if name == "function":
            name, mend = "TheClass", "write it as a class with a where, as penalties.L2 is, and add its gradient"
        raise TypeError(
            f"backprop: the penalty {name_of(penalty)} has no hand-written gradient; {mend} with "
            f"fnnet.backprop.PENALTY_GRADIENTS[{name}] = gradient(penalty, weight)"
        ) from None
    return map_named(lambda name, w: gradient(penalty, w) if penalty.where(name) else jnp.zeros_like(w), params)
