"""Adadelta: steps in the units of the parameters."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import check_decay_rate, check_not_negative
from fnnet.optimizers.leaves import leafwise
from fnnet.types import Array, Hyperparameter, Params, Scalar


class AdadeltaState(NamedTuple):
    step: Array
    v: Params  # the moving average of squared gradients
    u: Params  # the moving average of squared steps


def adadelta(
    learning_rate: Hyperparameter = 1.0, decay: Hyperparameter = 0.9, epsilon: Hyperparameter = 1e-6
) -> Optimizer:
    """Return the optimizer that scales gradients by the sizes of recent steps and recent gradients.

    ``v ← ρ v + (1 − ρ) g²``,  ``Δ = g √(u + ε) / √(v + ε)``,  ``u ← ρ u + (1 − ρ) Δ²``,  ``θ ← θ − α Δ``,
    with ``ρ = decay`` and both averages starting at 0.

    The paper has no rate: ``α = 1``. PyTorch and optax take the same steps.

    Source: Zeiler 2012, algorithm 1.
    """
    check_not_negative("optimizers.adadelta", learning_rate=learning_rate, epsilon=epsilon)
    check_decay_rate("optimizers.adadelta", decay=decay)

    def leaf(h: tuple[Scalar, ...], g: Array, v: Array, u: Array) -> tuple[Array, Array, Array]:
        rate, rho, eps = h
        v = rho * v + (1 - rho) * jnp.square(g)
        delta = g * jnp.sqrt(u + eps) / jnp.sqrt(v + eps)
        u = rho * u + (1 - rho) * jnp.square(delta)
        return -rate * delta, v, u

    return leafwise("optimizers.adadelta", AdadeltaState, leaf, (learning_rate, decay, epsilon), starts=(0.0, 0.0))
