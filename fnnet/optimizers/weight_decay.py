"""Decoupled weight decay as a transform. Arrays of fewer than two axes do not decay unless ``where`` chooses them."""

from __future__ import annotations

from fnnet.checks import at_least_float32
from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.groups import for_chosen
from fnnet.optimizers.hyperparameters import check_not_negative, in_dtype, value_at
from fnnet.paths import Where
from fnnet.types import Array, Hyperparameter


def decay_weights(weight_decay: Hyperparameter, where: Where = None) -> Optimizer:
    """Return the transform of decoupled weight decay, ``u ← u − λ θ`` with ``λ = weight_decay``.

    Put it after an algorithm: ``chain(momentum(0.1), decay_weights(1e-4))`` is SGDW. The decay does not depend on the
    learning rate; ``λ`` may be a schedule. ``where`` chooses by name the parameters that decay: by default those
    of at least two axes, and so no biases.

    Source: Loshchilov and Hutter 2019, algorithm 1.
    """
    check_not_negative("optimizers.decay_weights", weight_decay=weight_decay)

    def decay(step: Array, u: Array, p: Array) -> Array:
        wide = at_least_float32(u)
        return (u.astype(wide) - in_dtype(value_at(weight_decay, step), wide) * p.astype(wide)).astype(u.dtype)

    return for_chosen("optimizers.decay_weights", where, decay)
