"""Gradient descent with momentum."""

from __future__ import annotations

from typing import NamedTuple

import jax

from fnnet import checks
from fnnet.optimizers.base import Optimizer, check_rate, in_dtype, value_at, zero_moments, zero_step
from fnnet.types import Array, Hyperparameter, Params, Scalar


class MomentumState(NamedTuple):
    step: Array
    velocity: Params


def momentum(learning_rate: Hyperparameter, beta: Scalar = 0.9, *, averaged: bool = True) -> Optimizer:
    """Gradient descent along a moving average of the gradients.

    Averaged form (the default):  ``v ← β v + (1 − β) g``,  ``θ ← θ − α v``.
    Heavy ball (``averaged=False``; Polyak 1964, eq. 9; PyTorch's and optax's form):  ``v ← β v + g``,  ``θ ← θ − α v``.

    The velocity starts at 0. The heavy ball with rate ``α (1 − β)`` takes the steps of the averaged form with ``α``.
    """
    check_rate("optimizers.momentum", learning_rate)
    checks.in_range("optimizers.momentum", "beta", beta, 0, 1, open_high=True)

    def init(params: Params) -> MomentumState:
        return MomentumState(zero_step(), zero_moments(params))

    def update(grads: Params, state: MomentumState, params: Params | None = None) -> tuple[Params, MomentumState]:
        rate = value_at(learning_rate, state.step)
        share = 1 - beta if averaged else 1.0

        def next_velocity(v: Array, g: Array) -> Array:
            return in_dtype(beta, v.dtype) * v + in_dtype(share, v.dtype) * g.astype(v.dtype)

        velocity = jax.tree.map(next_velocity, state.velocity, grads)
        updates = jax.tree.map(lambda v, g: (-in_dtype(rate, v.dtype) * v).astype(g.dtype), velocity, grads)
        return updates, MomentumState(state.step + 1, velocity)

    return Optimizer(init, update)
