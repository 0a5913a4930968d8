"""Adagrad: a rate for every entry of the parameters, from the sum of its squared gradients."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import check_not_negative
from fnnet.optimizers.leaves import leafwise
from fnnet.types import Array, Hyperparameter, Params, Scalar


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

    def leaf(h: tuple[Scalar, ...], g: Array, total: Array) -> tuple[Array, Array]:
        rate, eps = h
        total = total + jnp.square(g)
        return -rate * g / (jnp.sqrt(total) + eps), total

    return leafwise("optimizers.adagrad", AdagradState, leaf, (learning_rate, epsilon), starts=(initial_accumulator,))
