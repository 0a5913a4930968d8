"""Where the batches of an epoch come from, and how it is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.cost import Cost
from fnnet.data.augment import Augmentation
from fnnet.optimizers import Optimizer
from fnnet.training.epoch import check_batch_size, example_order, take_rows, train_epoch
from fnnet.training.part import train_part
from fnnet.training.state import TrainState
from fnnet.training.step import train_step
from fnnet.types import Array, Batch


class Part(NamedTuple):
    """Some updates in a row of one epoch, done: between two parts ``fit`` may save."""

    state: TrainState
    metrics: dict[str, Array]  # means over the part, ``cost`` over its examples; ``step_costs``, one per update
    examples: int
    updates: int
    last: bool  # whether the epoch ends with it


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
        """The batches of that rest once more, in the same order and changed in the same way, to replay it."""
        ...


class Arrays:
    """Examples on the device: an epoch is one part and one program, ``train_epoch``.

    With ``updates``, parts of so many updates, the last one as short as it comes, and one program for all of them.
    """

    def __init__(
        self,
        cost: Cost,
        optimizer: Optimizer,
        data: Batch,
        *,
        batch_size: int,
        donate: bool,
        program: Callable[[Any], Any] = lambda function: function,
        updates: int | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        augment: Augmentation | None = None,
        **options: Any,
    ) -> None:
        check_batch_size("fit", batch_size, len(data[0]))
        self.data, self.examples, self.batch_size, self.updates = data, len(data[0]), batch_size, updates
        self.shuffle, self.drop_last, self.augment = shuffle, drop_last, augment
        batching: dict[str, Any] = {"batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last}
        function: Callable[..., Any]
        if updates is None:
            function = train_epoch(cost, optimizer, augment=augment, **batching, **options)
        else:
            step = train_step(cost, optimizer, augment=augment, **options)
            function = partial(train_part, step, **batching)
        self.function = jax.jit(program(function), donate_argnums=(0,) if donate else ())

    @property
    def steps(self) -> int:
        full, left = divmod(self.examples, self.batch_size)
        return full + (left > 0 and not self.drop_last)

    @property
    def description(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("examples", "batch_size", "shuffle", "drop_last", "updates")}

    @property
    def numbers(self) -> dict[str, float]:
        return {}

    def compile(self, state: TrainState) -> float:
        bounds = () if self.updates is None else self.bounds(0, self.updates)
        self.compiled, seconds = compile_timed(self.function, state, self.data, *bounds)
        return seconds

    def parts(self, state: TrainState, place: int) -> Generator[Part, None, None]:
        while place < self.steps:
            end = self.steps if self.updates is None else min(place + self.updates, self.steps)
            bounds = () if self.updates is None else self.bounds(place, end)
            state, metrics = self.compiled(state, self.data, *bounds)
            examples = min(end * self.batch_size, self.examples) - place * self.batch_size
            yield Part(state, metrics, examples, end - place, end == self.steps)
            place = end

    @staticmethod
    def bounds(start: int, end: int) -> tuple[np.int32, np.int32]:
        return np.int32(start), np.int32(end)  # of the host: they go to all devices of a mesh

    def batches(self, state: TrainState, place: int) -> Iterator[Batch]:
        order = example_order(state._replace(step=state.step - place), self.examples, self.shuffle)
        for i in range(place, self.steps):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            x, y = (take_rows(jnp.asarray(a), rows) for a in self.data)
            yield augmented(self.augment, state, i - place, (x, y))


def augmented(augment: Augmentation | None, state: TrainState, updates: int, batch: Batch) -> Batch:
    """The batch as ``train_step`` sees it, so many updates after this state."""
    return batch if augment is None else augment(state._replace(step=state.step + updates).augmentation_key(), batch)


def compile_timed(function: Any, *arguments: Any) -> tuple[Callable[..., Any], float]:
    start = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    return compiled, time.perf_counter() - start
