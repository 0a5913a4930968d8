"""Gradient descent with momentum."""

from __future__ import annotations

from typing import NamedTuple

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import all_in_dtype, check_decay, check_rate, values_at
from fnnet.optimizers.leaves import map_leaves, zero_moments, zero_step
from fnnet.types import Array, Hyperparameter, Params


class MomentumState(NamedTuple):
    step: Array
    velocity: Params


def momentum(learning_rate: Hyperparameter, beta: Hyperparameter = 0.9, *, averaged: bool = True) -> Optimizer:
    """Gradient descent along a moving average of the gradients.

    Averaged form (the default):  ``v ← β v + (1 − β) g``,  ``θ ← θ − α v``.
    Heavy ball (``averaged=False``; Polyak 1964, eq. 9; PyTorch's and optax's form):  ``v ← β v + g``,  ``θ ← θ − α v``.

    The velocity starts at 0; with PyTorch's ``dampening`` it starts with the whole of the first gradient. The heavy
    ball with rate ``α (1 − β)`` takes the steps of the averaged form with ``α``.
    """
    check_rate("optimizers.momentum", learning_rate)
    check_decay("optimizers.momentum", beta=beta)

    def init(params: Params) -> MomentumState:
        return MomentumState(zero_step(), zero_moments(params))

    def update(grads: Params, state: MomentumState, params: Params | None = None) -> tuple[Params, MomentumState]:
        hyperparameters = values_at(state.step, learning_rate, beta)

        def leaf(g: Array, v: Array) -> tuple[Array, Array]:
            rate, b = all_in_dtype(v.dtype, *hyperparameters)
            share = 1 - b if averaged else 1.0
            v = b * v + share * g.astype(v.dtype)
            return (-rate * v).astype(g.dtype), v

        updates, velocity = map_leaves("optimizers.momentum", leaf, grads, state.velocity)
        return updates, MomentumState(state.step + 1, velocity)

    return Optimizer(init, update)


def nesterov(learning_rate: Hyperparameter, beta: Hyperparameter = 0.9) -> Optimizer:
    """Nesterov's accelerated gradient, in the variables of Sutskever et al. 2013, eq. 3-4, shifted to the look-ahead.

    ``v ← β v + g``,  ``θ ← θ − α (g + β v)``.

    Nesterov (1983) takes the gradient at ``φ − α β v``, ahead of the iterate ``φ``. Here ``θ`` is that point itself, so
    the gradient is taken where the parameters are: ``φ = θ + α β v`` follows his sequence, for a constant rate and a
    constant ``β``. This is PyTorch's (``nesterov=True``) and optax's form.
    """
    check_rate("optimizers.nesterov", learning_rate)
    check_decay("optimizers.nesterov", beta=beta)

    def init(params: Params) -> MomentumState:
        return MomentumState(zero_step(), zero_moments(params))

    def update(grads: Params, state: MomentumState, params: Params | None = None) -> tuple[Params, MomentumState]:
        hyperparameters = values_at(state.step, learning_rate, beta)

        def leaf(g: Array, v: Array) -> tuple[Array, Array]:
            rate, b = all_in_dtype(v.dtype, *hyperparameters)
            wide = g.astype(v.dtype)
            v = b * v + wide
            return (-rate * (wide + b * v)).astype(g.dtype), v

        updates, velocity = map_leaves("optimizers.nesterov", leaf, grads, state.velocity)
        return updates, MomentumState(state.step + 1, velocity)

    return Optimizer(init, update)
