"""Optimizers: pure functions ``init(params) -> state`` and ``update(grads, state, params) -> (updates, state)``.

Each algorithm is one function with the whole of it visible. ``apply_updates`` adds the updates to the parameters. The
pair is optax's protocol: either library's optimizers work in the other's loop.

In the formulas ``θ`` are the parameters, ``g`` the gradient, ``α`` the learning rate, ``t`` the number of the update
from 1. A learning rate is a number, a traced array or a schedule: a function of the step, which counts from 0.
"""

from fnnet.optimizers.adam import AdamState, adam
from fnnet.optimizers.base import Optimizer, apply_updates, chain
from fnnet.optimizers.momentum import MomentumState, momentum
from fnnet.optimizers.sgd import SgdState, sgd
from fnnet.optimizers.transforms import project

__all__ = [
    "AdamState",
    "MomentumState",
    "Optimizer",
    "SgdState",
    "adam",
    "apply_updates",
    "chain",
    "momentum",
    "project",
    "sgd",
]
