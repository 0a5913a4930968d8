"""Lion: steps by the sign of the momentum."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import check_decay_rate, check_not_negative
from fnnet.optimizers.leaves import chosen, leafwise
from fnnet.paths import Where
from fnnet.types import Array, Hyperparameter, Params, Scalar


class LionState(NamedTuple):
    step: Array
    m: Params


def lion(
    learning_rate: Hyperparameter = 1e-4,
    beta1: Hyperparameter = 0.9,
    beta2: Hyperparameter = 0.99,
    *,
    weight_decay: Hyperparameter = 0.0,
    where: Where = None,
) -> Optimizer:
    """Return the optimizer that steps by the sign of a moving average of the gradients.

    ``θ ← θ − α (sign(β₁ m + (1 − β₁) g) + λ θ)``,  then  ``m ← β₂ m + (1 − β₂) g``,
    with ``λ = weight_decay`` and ``m`` starting at 0.

    Every entry moves by ``α``, so the rate is 3 to 10 times smaller than Adam's. ``where`` chooses by name the
    parameters that decay: by default those of at least two axes. optax takes the same steps; its decay is 1e-3 by
    default.

    Source: Chen et al. 2023, algorithm 2.
    """
    caller = "optimizers.lion"
    check_not_negative(caller, learning_rate=learning_rate, weight_decay=weight_decay)
    check_decay_rate(caller, beta1=beta1, beta2=beta2)

    def leaf(h: tuple[Scalar, ...], g: Array, m: Array, p: Array, decays: bool) -> tuple[Array, Array]:
        rate, b1, b2, decay = h
        direction = jnp.sign(b1 * m + (1 - b1) * g)
        if decays:
            direction = direction + decay * p
        return -rate * direction, b2 * m + (1 - b2) * g

    return leafwise(
        caller, LionState, leaf, (learning_rate, beta1, beta2, weight_decay), choose=partial(chosen, caller, where)
    )
