"""The state of a training run."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet.optimizers import Optimizer
from fnnet.types import Array, Params


class TrainState(NamedTuple):
    """All that changes while a network trains, as one pytree of arrays.

    ``key`` never changes: the random numbers of a step are drawn from ``key`` and ``step``, so that a run continued
    from a saved state draws what the uninterrupted run would have drawn.
    """

    params: Params
    opt_state: Any
    step: Array  # updates made so far, int32
    key: Array

    @classmethod
    def create(cls, params: Params, optimizer: Optimizer, key: Array) -> TrainState:
        """The state before the first update."""
        return cls(params, optimizer.init(params), jnp.zeros((), jnp.int32), key)

    def network_key(self) -> Array:
        """The key for the model's own random numbers (dropout) in the next step."""
        return jax.random.fold_in(jax.random.fold_in(self.key, 0), self.step)

    def order_key(self) -> Array:
        """The key for the order of the examples in an epoch that starts at this step."""
        return jax.random.fold_in(jax.random.fold_in(self.key, 1), self.step)

    def augmentation_key(self) -> Array:
        """The key for random changes of the batch in the next step."""
        return jax.random.fold_in(jax.random.fold_in(self.key, 2), self.step)
