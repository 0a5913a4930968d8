"""Gradient descent."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import check_rate, in_dtype, value_at
from fnnet.optimizers.leaves import moment_dtype, zero_step
from fnnet.types import Array, Hyperparameter, Params


class SgdState(NamedTuple):
    step: Array


def sgd(learning_rate: Hyperparameter) -> Optimizer:
    """Gradient descent, ``θ ← θ − α g`` (Cauchy 1847; with noisy gradients, Robbins and Monro 1951).

    Whole-batch, mini-batch and stochastic gradient descent are this same update: what differs is the batch that the
    gradient is taken over.
    """
    check_rate("optimizers.sgd", learning_rate)

    def init(params: Params) -> SgdState:
        return SgdState(zero_step())

    def update(grads: Params, state: SgdState, params: Params | None = None) -> tuple[Params, SgdState]:
        rate = value_at(learning_rate, state.step)

        def leaf(g: Array) -> Array:
            wide = moment_dtype(g)
            return jnp.asarray(-in_dtype(rate, wide) * g.astype(wide)).astype(g.dtype)

        return jax.tree.map(leaf, grads), SgdState(state.step + 1)

    return Optimizer(init, update)
