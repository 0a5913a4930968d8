"""Lion."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import all_in_dtype, check_decay, check_not_negative, check_rate, values_at
from fnnet.optimizers.leaves import chosen, map_leaves, params_given, zero_moments, zero_step
from fnnet.paths import is_weight
from fnnet.types import Array, Hyperparameter, Params


class LionState(NamedTuple):
    step: Array
    m: Params


def lion(
    learning_rate: Hyperparameter = 1e-4,
    beta1: Hyperparameter = 0.9,
    beta2: Hyperparameter = 0.99,
    *,
    weight_decay: Hyperparameter = 0.0,
    where: Callable[[str], bool] = is_weight,
) -> Optimizer:
    """Steps by the sign of the momentum (Chen et al. 2023, algorithm 2).

    ``θ ← θ − α (sign(β₁ m + (1 − β₁) g) + λ θ)``,  then  ``m ← β₂ m + (1 − β₂) g``;  ``λ = weight_decay``.

    Every coordinate moves by ``α``: the rate is 3 to 10 times smaller than Adam's. ``where`` chooses by name what
    decays, by default the weights. optax's is the same, with decay 1e-3 by default.
    """
    place = "optimizers.lion"
    check_rate(place, learning_rate)
    check_decay(place, beta1=beta1, beta2=beta2)
    check_not_negative(place, weight_decay=weight_decay)

    def init(params: Params) -> LionState:
        chosen(place, where, params)
        return LionState(zero_step(), zero_moments(params))

    def update(grads: Params, state: LionState, params: Params | None = None) -> tuple[Params, LionState]:
        hyperparameters = values_at(state.step, learning_rate, beta1, beta2, weight_decay)

        def leaf(g: Array, m: Array, p: Array, decays: bool) -> tuple[Array, Array]:
            rate, b1, b2, decay = all_in_dtype(m.dtype, *hyperparameters)
            wide = g.astype(m.dtype)
            change = jnp.sign(b1 * m + (1 - b1) * wide)
            if decays:
                change = change + decay * p.astype(m.dtype)
            return (-rate * change).astype(g.dtype), b2 * m + (1 - b2) * wide

        params = params_given(place, params)
        updates, m = map_leaves(place, leaf, grads, state.m, given=(params, chosen(place, where, params)))
        return updates, LionState(state.step + 1, m)

    return Optimizer(init, update)
