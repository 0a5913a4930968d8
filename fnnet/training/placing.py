"""On which devices the state and the data of a run lie."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from fnnet.training.state import TrainState
from fnnet.types import Batch


class Placing(Protocol):
    """Puts a state and batches where a run needs them; the compiled programs follow their arguments."""

    def state(self, state: TrainState) -> TrainState:
        """The state in buffers of its own: the caller's must outlive a donation."""
        ...

    def check_batch_size(self, batch_size: int) -> None:
        """Refuses a batch that cannot be placed."""
        ...

    def checking(self) -> AbstractContextManager[Any]:
        """Around the checks of the data: where they are to lie before they are placed."""
        ...

    def batch(self, batch: Batch, place: str = "fit") -> Batch:
        """The data where they belong; ``place`` is for the messages."""
        ...

    def engine(self, value_and_grad: Callable[[Any], Callable[..., Any]]) -> Callable[[Any], Callable[..., Any]]:
        """The engine of the gradients, its batches and gradients where they belong."""
        ...

    def program(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function(state, ...) -> (state, metrics)``, whose state is placed as the one it receives."""
        ...

    def running(self) -> AbstractContextManager[None]:
        """Around the run: explains its errors."""
        ...


class DefaultDevice:
    """Everything where JAX puts it by itself."""

    def state(self, state: TrainState) -> TrainState:
        return jax.tree.map(jnp.copy, state)

    def check_batch_size(self, batch_size: int) -> None:
        pass

    def checking(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def batch(self, batch: Batch, place: str = "fit") -> Batch:
        return batch

    def engine(self, value_and_grad: Callable[[Any], Callable[..., Any]]) -> Callable[[Any], Callable[..., Any]]:
        return value_and_grad

    def program(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def running(self) -> AbstractContextManager[None]:
        return nullcontext()
