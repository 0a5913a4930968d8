"""Decoupled weight decay as a transform. Biases, scales and shifts do not decay unless ``where`` chooses them."""

from __future__ import annotations

from collections.abc import Callable

from fnnet.checks import at_least_float32
from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.groups import for_chosen
from fnnet.optimizers.hyperparameters import check_not_negative, in_dtype, value_at
from fnnet.paths import is_weight
from fnnet.types import Array, Hyperparameter


def decay_weights(weight_decay: Hyperparameter, where: Callable[[str], bool] = is_weight) -> Optimizer:
    """Return the transform of decoupled weight decay, ``u ← u − λ θ`` with ``λ = weight_decay``.

    Put it after an algorithm: ``chain(momentum(0.1), decay_weights(1e-4))`` is SGDW. The decay does not depend on the
    learning rate; ``λ`` may be a schedule. ``where`` chooses by name the parameters that decay: by default the weights,
    but not the biases.

    Source: Loshchilov and Hutter 2019, algorithm 1.
    """
    check_not_negative("optimizers.decay_weights", weight_decay=weight_decay)

    def decay(step: Array, u: Array, p: Array) -> Array:
        wide = at_least_float32(u)
        return (u.astype(wide) - in_dtype(value_at(weight_decay, step), wide) * p.astype(wide)).astype(u.dtype)

    return for_chosen("optimizers.decay_weights", where, decay)
