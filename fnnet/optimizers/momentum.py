"""Gradient descent with momentum."""

from __future__ import annotations

from typing import NamedTuple

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import check_decay_rate, check_not_negative
from fnnet.optimizers.leaves import leafwise
from fnnet.types import Array, Hyperparameter, Params, Scalar


class MomentumState(NamedTuple):
    step: Array
    velocity: Params


def momentum(learning_rate: Hyperparameter, momentum: Hyperparameter = 0.9, *, averaged: bool = True) -> Optimizer:
    """Return the optimizer of gradient descent along a moving average of the gradients.

    With ``β = momentum`` and ``v`` starting at 0:

    - averaged form (the default): ``v ← β v + (1 − β) g``,  ``θ ← θ − α v``;
    - heavy ball (``averaged=False``): ``v ← β v + g``,  ``θ ← θ − α v``.

    The heavy ball with the rate ``α (1 − β)`` takes the same steps as the averaged form with the rate ``α``. The heavy
    ball is the form of PyTorch and optax. With PyTorch's option ``dampening``, ``v`` starts at the first gradient.

    Source: Polyak 1964, eq. 9.
    """
    check_not_negative("optimizers.momentum", learning_rate=learning_rate)
    check_decay_rate("optimizers.momentum", momentum=momentum)

    def leaf(h: tuple[Scalar, ...], g: Array, v: Array) -> tuple[Array, Array]:
        rate, beta = h
        v = beta * v + (1 - beta) * g if averaged else beta * v + g
        return -rate * v, v

    return leafwise("optimizers.momentum", MomentumState, leaf, (learning_rate, momentum))


def nesterov(learning_rate: Hyperparameter, momentum: Hyperparameter = 0.9) -> Optimizer:
    """Return the optimizer of Nesterov's accelerated gradient.

    ``v ← β v + g``,  ``θ ← θ − α (g + β v)``,  with ``β = momentum`` and ``v`` starting at 0.

    Nesterov (1983) takes the gradient at ``φ − α β v``, ahead of the iterate ``φ``. Here the parameters ``θ`` are that
    point, so the gradient is taken where the parameters are; ``φ = θ + α β v`` follows Nesterov's sequence if the rate
    and ``β`` are constant. PyTorch (``nesterov=True``) and optax have the same form.

    Source: Sutskever et al. 2013, eq. 3-4, in the shifted variable.
    """
    check_not_negative("optimizers.nesterov", learning_rate=learning_rate)
    check_decay_rate("optimizers.nesterov", momentum=momentum)

    def leaf(h: tuple[Scalar, ...], g: Array, v: Array) -> tuple[Array, Array]:
        rate, beta = h
        v = beta * v + g
        return -rate * (g + beta * v), v

    return leafwise("optimizers.nesterov", MomentumState, leaf, (learning_rate, momentum))
