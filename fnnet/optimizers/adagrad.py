"""Adagrad: a rate for every entry of the parameters, from the sum of its squared gradients."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer, zero_step
from fnnet.optimizers.hyperparameters import all_in_dtype, check_not_negative, values_at
from fnnet.optimizers.leaves import full_moments, map_leaves
from fnnet.types import Array, Hyperparameter, Params


class AdagradState(NamedTuple):
    step: Array
    sum_of_squares: Params


def adagrad(
    learning_rate: Hyperparameter = 1e-2, epsilon: Hyperparameter = 1e-10, *, initial_accumulator: float = 0.0
) -> Optimizer:
    """Return the optimizer of adaptive subgradients.

    ``G ← G + g²``,  ``θ ← θ − α g / (√G + ε)``;  ``G`` starts at ``initial_accumulator``.

    This is PyTorch's form. optax divides by ``√(G + ε)`` with ``ε = 1e-7`` and starts ``G`` at 0.1.

    Source: Duchi, Hazan and Singer 2011, figure 1, with the diagonal matrix.
    """
    check_not_negative(
        "optimizers.adagrad", learning_rate=learning_rate, epsilon=epsilon, initial_accumulator=initial_accumulator
    )

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
