"""A rate for every parameter, by the size of its past gradients."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import all_in_dtype, check_decay, check_not_negative, check_rate, values_at
from fnnet.optimizers.leaves import full_moments, map_leaves, zero_moments, zero_step
from fnnet.types import Array, Hyperparameter, Params


class AdagradState(NamedTuple):
    step: Array
    sum_of_squares: Params


def adagrad(
    learning_rate: Hyperparameter = 1e-2, epsilon: Hyperparameter = 1e-10, *, initial_accumulator: float = 0.0
) -> Optimizer:
    """Adaptive subgradients (Duchi, Hazan and Singer 2011, figure 1, diagonal).

    ``G ← G + g²``,  ``θ ← θ − α g / (√G + ε)``;  ``G`` starts at ``initial_accumulator``.

    This is PyTorch's form. optax divides by ``√(G + ε)`` with ``ε = 1e-7`` and starts ``G`` at 0.1.
    """
    check_rate("optimizers.adagrad", learning_rate)
    check_not_negative("optimizers.adagrad", epsilon=epsilon, initial_accumulator=initial_accumulator)

    def init(params: Params) -> AdagradState:
        return AdagradState(zero_step(), full_moments(params, initial_accumulator))

    def update(grads: Params, state: AdagradState, params: Params | None = None) -> tuple[Params, AdagradState]:
        hyperparameters = values_at(state.step, learning_rate, epsilon)

        def leaf(g: Array, total: Array) -> tuple[Array, Array]:
            rate, eps = all_in_dtype(total.dtype, *hyperparameters)
            wide = g.astype(total.dtype)
            total = total + jnp.square(wide)
            return (-rate * wide / (jnp.sqrt(total) + eps)).astype(g.dtype), total

        updates, sums = map_leaves("optimizers.adagrad", leaf, grads, state.sum_of_squares)
        return updates, AdagradState(state.step + 1, sums)

    return Optimizer(init, update)


class AdadeltaState(NamedTuple):
    step: Array
    v: Params  # moving average of squared gradients
    u: Params  # moving average of squared steps


def adadelta(
    learning_rate: Hyperparameter = 1.0, rho: Hyperparameter = 0.9, epsilon: Hyperparameter = 1e-6
) -> Optimizer:
    """Steps in the units of the parameters (Zeiler 2012, algorithm 1).

    ``v ← ρ v + (1 − ρ) g²``,  ``Δ = g √(u + ε) / √(v + ε)``,  ``u ← ρ u + (1 − ρ) Δ²``,  ``θ ← θ − α Δ``.

    Zeiler's has ``α = 1``. Both averages start at 0. PyTorch's and optax's are the same.
    """
    check_rate("optimizers.adadelta", learning_rate)
    check_decay("optimizers.adadelta", rho=rho)
    check_not_negative("optimizers.adadelta", epsilon=epsilon)

    def init(params: Params) -> AdadeltaState:
        return AdadeltaState(zero_step(), zero_moments(params), zero_moments(params))

    def update(grads: Params, state: AdadeltaState, params: Params | None = None) -> tuple[Params, AdadeltaState]:
        hyperparameters = values_at(state.step, learning_rate, rho, epsilon)

        def leaf(g: Array, v: Array, u: Array) -> tuple[Array, Array, Array]:
            rate, r, eps = all_in_dtype(v.dtype, *hyperparameters)
            wide = g.astype(v.dtype)
            v = r * v + (1 - r) * jnp.square(wide)
            delta = wide * jnp.sqrt(u + eps) / jnp.sqrt(v + eps)
            u = r * u + (1 - r) * jnp.square(delta)
            return (-rate * delta).astype(g.dtype), v, u

        updates, v, u = map_leaves("optimizers.adadelta", leaf, grads, state.v, state.u)
        return updates, AdadeltaState(state.step + 1, v, u)

    return Optimizer(init, update)
