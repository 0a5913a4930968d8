"""RMSprop."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer, zero_step
from fnnet.optimizers.hyperparameters import all_in_dtype, check_decay_rate, check_not_negative, values_at
from fnnet.optimizers.leaves import map_leaves, zero_moments
from fnnet.types import Array, Hyperparameter, Params


class RmspropState(NamedTuple):
    step: Array
    v: Params  # the moving average of squared gradients
    m: Params  # the moving average of gradients; () unless centered
    velocity: Params  # () without momentum


def rmsprop(
    learning_rate: Hyperparameter = 1e-3,
    decay: Hyperparameter = 0.9,
    epsilon: Hyperparameter = 1e-8,
    *,
    momentum: Hyperparameter = 0.0,
    centered: bool = False,
) -> Optimizer:
    """Return the optimizer that divides gradients by the root mean square of recent gradients.

    With ``ρ = decay`` and all averages starting at 0:

    - ``v ← ρ v + (1 − ρ) g²``,  ``d = √v + ε``,  ``θ ← θ − α g / d``;
    - with ``centered``, which divides by the standard deviation: ``m ← ρ m + (1 − ρ) g``,  ``d = √(v − m²) + ε``;
    - with ``μ = momentum``: ``b ← μ b + g / d``,  ``θ ← θ − α b``.

    This is PyTorch's form, where ``ρ = 0.99``. optax has ``d = √(v + ε)`` unless ``eps_in_sqrt=False``, and its
    momentum accumulates ``α g / d``, which differs if the rate changes.

    Source: Tieleman and Hinton 2012, lecture 6e; centered, Graves 2013, eq. 38-40.
    """
    check_not_negative("optimizers.rmsprop", learning_rate=learning_rate, epsilon=epsilon)
    check_decay_rate("optimizers.rmsprop", decay=decay, momentum=momentum)
    moving = not (isinstance(momentum, (int, float)) and momentum == 0)

    def init(params: Params) -> RmspropState:
        m = zero_moments(params) if centered else ()
        return RmspropState(zero_step(), zero_moments(params), m, zero_moments(params) if moving else ())

    def update(grads: Params, state: RmspropState, params: Params | None = None) -> tuple[Params, RmspropState]:
        hyperparameters = values_at(state.step, learning_rate, decay, epsilon, momentum)

        def leaf(g: Array, v: Array, m: Array, b: Array) -> tuple[Array, Array, Array, Array]:
            rate, rho, eps, mu = all_in_dtype(v.dtype, *hyperparameters)
            wide = g.astype(v.dtype)
            v = rho * v + (1 - rho) * jnp.square(wide)
            variance = v
            if centered:
                m = rho * m + (1 - rho) * wide
                variance = jnp.maximum(v - jnp.square(m), 0)  # rounding may make it negative
            step = wide / (jnp.sqrt(variance) + eps)
            if moving:
                b = step = mu * b + step
            return (-rate * step).astype(g.dtype), v, m, b

        # A tree that is not used is (); v stands in for it here, and leaf does not touch it.
        m, velocity = state.m if centered else state.v, state.velocity if moving else state.v
        updates, v, m, velocity = map_leaves("optimizers.rmsprop", leaf, grads, state.v, m, velocity)
        return updates, RmspropState(state.step + 1, v, m if centered else (), velocity if moving else ())

    return Optimizer(init, update, "algorithm")
