"""RMSprop."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import all_in_dtype, check_decay, check_not_negative, check_rate, values_at
from fnnet.optimizers.leaves import map_leaves, zero_moments, zero_step
from fnnet.types import Array, Hyperparameter, Params


class RmspropState(NamedTuple):
    step: Array
    v: Params  # moving average of squared gradients
    m: Params  # moving average of gradients; () unless centered
    velocity: Params  # () without momentum


def rmsprop(
    learning_rate: Hyperparameter = 1e-3,
    rho: Hyperparameter = 0.9,
    epsilon: Hyperparameter = 1e-8,
    *,
    momentum: Hyperparameter = 0.0,
    centered: bool = False,
) -> Optimizer:
    """Division by the root mean square of recent gradients (Tieleman and Hinton 2012, lecture 6e).

    ``v ← ρ v + (1 − ρ) g²``,  ``d = √v + ε``,  ``θ ← θ − α g / d``.
    Centered (Graves 2013, eq. 38-40):  ``m ← ρ m + (1 − ρ) g``,  ``d = √(v − m²) + ε``, by the variance alone.
    With momentum ``μ``:  ``b ← μ b + g / d``,  ``θ ← θ − α b``.

    All averages start at 0. This is PyTorch's form (there ``ρ = 0.99``). optax has ``d = √(v + ε)`` unless
    ``eps_in_sqrt=False``, and its momentum averages ``α g / d``, which differs when the rate changes.
    """
    check_rate("optimizers.rmsprop", learning_rate)
    check_decay("optimizers.rmsprop", rho=rho, momentum=momentum)
    check_not_negative("optimizers.rmsprop", epsilon=epsilon)
    moving = not (isinstance(momentum, (int, float)) and momentum == 0)

    def init(params: Params) -> RmspropState:
        m = zero_moments(params) if centered else ()
        return RmspropState(zero_step(), zero_moments(params), m, zero_moments(params) if moving else ())

    def update(grads: Params, state: RmspropState, params: Params | None = None) -> tuple[Params, RmspropState]:
        hyperparameters = values_at(state.step, learning_rate, rho, epsilon, momentum)

        def leaf(g: Array, v: Array, m: Array, b: Array) -> tuple[Array, Array, Array, Array]:
            rate, r, eps, mu = all_in_dtype(v.dtype, *hyperparameters)
            wide = g.astype(v.dtype)
            v = r * v + (1 - r) * jnp.square(wide)
            variance = v
            if centered:
                m = r * m + (1 - r) * wide
                variance = jnp.maximum(v - jnp.square(m), 0)  # rounding may leave it below
            step = wide / (jnp.sqrt(variance) + eps)
            if moving:
                b = step = mu * b + step
            return (-rate * step).astype(g.dtype), v, m, b

        # Trees that are not used are represented by v and given back as (): leaf does not touch them.
        m, velocity = state.m if centered else state.v, state.velocity if moving else state.v
        updates, v, m, velocity = map_leaves("optimizers.rmsprop", leaf, grads, state.v, m, velocity)
        return updates, RmspropState(state.step + 1, v, m if centered else (), velocity if moving else ())

    return Optimizer(init, update)
