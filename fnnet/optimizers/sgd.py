"""Gradient descent."""

from __future__ import annotations

import jax

from fnnet.optimizers.base import Optimizer, StepState, zero_step
from fnnet.optimizers.hyperparameters import check_not_negative, value_at
from fnnet.optimizers.leaves import multiplied
from fnnet.types import Hyperparameter, Params


def sgd(learning_rate: Hyperparameter) -> Optimizer:
    """Return the optimizer of gradient descent.

    ``θ ← θ − α g``

    Whole-batch, mini-batch and stochastic gradient descent are the same update; they differ in the batch from which the
    gradient is computed.

    Source: Cauchy 1847; with noisy gradients, Robbins and Monro 1951.
    """
    check_not_negative("optimizers.sgd", learning_rate=learning_rate)

    def init(params: Params) -> StepState:
        return StepState(zero_step())

    def update(grads: Params, state: StepState, params: Params | None = None) -> tuple[Params, StepState]:
        rate = value_at(learning_rate, state.step)
        return jax.tree.map(lambda g: multiplied(g, -rate), grads), StepState(state.step + 1)

    return Optimizer(init, update, "algorithm")
