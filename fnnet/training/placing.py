"""On which devices the state and the data of a run lie."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.data.batches import HostBatch, NumpyArray
from fnnet.data.chunks import Chunk, stacked
from fnnet.data.prefetch import close
from fnnet.data.stream import Stream
from fnnet.training.state import TrainState
from fnnet.types import Array, Batch, Params


class Fed(NamedTuple):
    """A chunk on the devices."""

    arguments: tuple[Any, ...]  # the chunk and, of several processes, what they tell one another (``processes``)
    examples: int  # of this process
    updates: int
    fault: Exception | None = None  # what stops this process after it


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

    @property
    def processes(self) -> int:
        """How many processes feed the run."""
        ...

    def key(self, key: Array) -> Array:
        """A key of the state for this process's own use, in any thread."""
        ...

    def first_batch(self, place: str, stream: Stream, key: Array, check: Callable[[Any], Any]) -> HostBatch:
        """The first batch of a stream that can be placed, after ``check(batch)``."""
        ...

    def fed(self, chunks: Iterator[Chunk], empty: Chunk) -> Generator[Fed, None, None]:
        """The chunks where the programs need them."""
        ...

    @property
    def results(self) -> Any:
        """The sharding of a program's numbers; None leaves it to JAX."""
        ...

    def params(self, params: Params) -> Params:
        """Parameters where the chunks are."""
        ...

    def everywhere(self, tree: Any) -> Any:
        """The same numbers on all devices."""
        ...

    def whole_batches(self, batches: Iterable[HostBatch], size: int) -> Iterator[tuple[Batch, NumpyArray]]:
        """A stream's batches one by one, filled up as in training, and which of their examples are real."""
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

    @property
    def processes(self) -> int:
        return 1

    def key(self, key: Array) -> Array:
        return key

    def first_batch(self, place: str, stream: Stream, key: Array, check: Callable[[Any], Any]) -> HostBatch:
        batch = stream.first_batch(key)
        check(batch)
        return batch

    def fed(self, chunks: Iterator[Chunk], empty: Chunk) -> Generator[Fed, None, None]:
        return fed_alone(chunks, jax.device_put)

    @property
    def results(self) -> Any:
        return None

    def params(self, params: Params) -> Params:
        return params

    def everywhere(self, tree: Any) -> Any:
        return tree

    def whole_batches(self, batches: Iterable[HostBatch], size: int) -> Iterator[tuple[Batch, NumpyArray]]:
        for batch, real in filled(batches, size):
            yield (jnp.asarray(batch.x), jnp.asarray(batch.y)), real


DEFAULT_DEVICE = DefaultDevice()


def fed_alone(chunks: Iterator[Chunk], put: Callable[[Chunk], Chunk]) -> Generator[Fed, None, None]:
    try:
        for chunk in chunks:
            yield Fed((put(chunk),), int(chunk.sizes.sum()), int(chunk.updates))
    finally:
        close(chunks)


def filled(batches: Iterable[HostBatch], size: int) -> Iterator[tuple[HostBatch, NumpyArray]]:
    for batch in batches:
        x, y = (stacked([part], 1, size)[0] for part in batch)
        yield HostBatch(x, y), np.arange(size) < len(batch.x)
