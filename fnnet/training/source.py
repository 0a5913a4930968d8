"""Where the batches of an epoch come from, and how it is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from fnnet.cost import Cost
from fnnet.optimizers import Optimizer
from fnnet.training.epoch import check_batch_size, example_order, take_rows, train_epoch
from fnnet.training.state import TrainState
from fnnet.types import Array, Batch


class Part(NamedTuple):
    """Some updates in a row of one epoch, done: between two parts ``fit`` may save."""

    state: TrainState
    metrics: dict[str, Array]  # means over the part, ``cost`` over its examples; ``step_costs``, one per update
    examples: int
    updates: int


class Source(Protocol):
    """The training data as ``fit`` sees it: an epoch is an iterator of parts, all of one compiled program.

    ``steps`` is the number of updates in an epoch, None if it is not known beforehand. ``description`` is what a run
    must have in common with a checkpoint to go on from it, as JSON: the batch size, say. ``numbers`` are those of its
    own that it adds to the record of the epoch just made.
    """

    @property
    def steps(self) -> int | None: ...
    @property
    def description(self) -> dict[str, Any]: ...
    @property
    def numbers(self) -> dict[str, float]: ...

    def compile(self, state: TrainState) -> float:
        """Compile the program for states like this one; the seconds that it took."""
        ...

    def parts(self, state: TrainState, place: int) -> Generator[Part, None, None]:
        """The rest of an epoch of which ``place`` updates are made. ``state`` is given up if ``donate`` was set."""
        ...

    def batches(self, state: TrainState, place: int) -> Iterator[Batch]:
        """The batches of that rest once more, in the same order, to replay it."""
        ...


class Arrays:
    """Examples on the device: an epoch is one part and one program, ``train_epoch``."""

    def __init__(
        self, cost: Cost, optimizer: Optimizer, data: Batch, *, batch_size: int, donate: bool, **options: Any
    ) -> None:
        check_batch_size("fit", batch_size, len(data[0]))
        self.data, self.batch_size, self.examples = data, batch_size, len(data[0])
        self.shuffle, self.drop_last = options.get("shuffle", True), options.get("drop_last", False)
        epoch = train_epoch(cost, optimizer, batch_size=batch_size, **options)
        self.function = jax.jit(epoch, donate_argnums=(0,) if donate else ())
        self.compiled: Callable[..., Any] = self.function

    @property
    def steps(self) -> int:
        full, left = divmod(self.examples, self.batch_size)
        return full + (left > 0 and not self.drop_last)

    @property
    def description(self) -> dict[str, Any]:
        return {
            "examples": self.examples,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }

    @property
    def numbers(self) -> dict[str, float]:
        return {}

    def compile(self, state: TrainState) -> float:
        self.compiled, seconds = compile_timed(self.function, state, self.data)
        return seconds

    def parts(self, state: TrainState, place: int) -> Generator[Part, None, None]:
        state, metrics = self.compiled(state, self.data)
        yield Part(state, metrics, self.examples, self.steps)

    def batches(self, state: TrainState, place: int) -> Iterator[Batch]:
        order = example_order(state, self.examples, self.shuffle)
        for i in range(place, self.steps):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield tuple(take_rows(jnp.asarray(a), rows) for a in self.data)  # type: ignore[misc]


def compile_timed(function: Any, *arguments: Any) -> tuple[Callable[..., Any], float]:
    start = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    return compiled, time.perf_counter() - start
