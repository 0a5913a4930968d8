"""On which devices the state and the data of a run lie."""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp

from fnnet.training.state import TrainState
from fnnet.types import Batch


class Placing(Protocol):
    """Puts a state and batches where a run needs them; the compiled programs follow their arguments."""

    def state(self, state: TrainState) -> TrainState:
        """The state in buffers of its own: the caller's must outlive a donation."""
        ...

    def batch(self, batch: Batch) -> Batch: ...


class DefaultDevice:
    """Everything where JAX puts it by itself."""

    def state(self, state: TrainState) -> TrainState:
        return jax.tree.map(jnp.copy, state)

    def batch(self, batch: Batch) -> Batch:
        return batch
