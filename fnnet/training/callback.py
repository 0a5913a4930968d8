"""The protocol of what ``fit`` calls after every epoch.

A callback is a function ``(state, record) -> stop``, or an object with the methods of ``Callback``. Training stops when
one of them returns True.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.cost import Cost
from fnnet.data.augment import Augmentation
from fnnet.data.stream import Stream
from fnnet.optimizers import Optimizer
from fnnet.training.checkpoint import Saver
from fnnet.training.placement import Placement, is_key
from fnnet.training.snapshot import Record, Snapshot, raw
from fnnet.training.state import TrainState
from fnnet.training.step import Probe
from fnnet.types import Array, Batch


@dataclass
class Run:
    """A run of ``fit`` as its callbacks see it."""

    cost: Cost
    optimizer: Optimizer
    value_and_grad: Callable[[Any], Callable[..., Any]]
    augment: Augmentation | None
    stream: Stream
    placement: Placement
    validation: Batch | Stream | None
    saver: Saver | None
    before: Snapshot  # before the last chunk of updates; its state is a copy, which no program takes over
    resumed_at: int | None = None  # the number of updates in the checkpoint that the run goes on from

    @property
    def validates(self) -> bool:
        return self.validation is not None

    def replay(self) -> Iterator[Any]:
        """Yield the batches of the updates since ``before`` and those after them, in the order of the run."""
        for chunk in self.stream.chunks(epoch_key(self.before), self.before.updates):
            yield from self.placement.batch(chunk, self.stream.batch_size).batches()


def epoch_key(snapshot: Snapshot) -> Array:
    """Return the key for the order of the epoch, of which some updates may have been made, as an array of this process.

    Its computations in the thread of a stream are then no affair of the other processes.
    """
    key = snapshot.state._replace(step=snapshot.state.step - snapshot.updates).order_key()
    data = jnp.asarray(np.asarray(raw(key)))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key)) if is_key(key) else data


class Memory(NamedTuple):
    """What a checkpoint keeps of a callback: a pytree of arrays, and numbers that JSON can represent."""

    arrays: Any
    numbers: Any


class Callback:
    """The protocol of ``fit``'s callbacks; all methods of this base class do nothing."""

    memory: Memory | None = None  # saved and restored with the checkpoints of a run
    step_probe: Probe | None = None  # a pure function of ``train_step``, computed in every step

    def start(self, run: Run) -> None:
        """Called before the first epoch, before a checkpoint is read."""

    def after_chunk(self, probed: Any) -> None:
        """Called after every chunk with what ``step_probe`` returned, on the host, ``(K, ...)`` for ``K`` updates."""

    def to_record(self, state: TrainState) -> Record:
        """Return numbers to add to the record of the epoch that has ended, for every callback to see."""
        return {}

    def __call__(self, state: TrainState, record: Record) -> bool | None:
        """Called after every epoch with a state that may be kept; True stops the training."""
        return None

    @property
    def done(self) -> bool:
        """Whether training is over, also before the first epoch of a run that is continued."""
        return False

    def result(self, state: TrainState) -> TrainState:
        """Return the state that ``fit`` returns, given the last one."""
        return state

    def close(self) -> None:
        """Called at the end of the run, however it ends."""


class Function(Callback):
    """A plain function as a callback."""

    def __init__(self, function: Callable[[TrainState, Record], Any]) -> None:
        self.function = function

    def __call__(self, state: TrainState, record: Record) -> bool | None:
        answer = self.function(state, dict(record))
        return isinstance(answer, (bool, np.bool_)) and bool(answer)  # other values are the function's own affair


def as_callback(callback: Any) -> Callback:
    if isinstance(callback, Callback):
        return callback
    if isinstance(callback, type) or not callable(callback):
        raise TypeError(
            f"fit: callbacks has {callback!r}; expected a function (state, record) or a callback such as "
            f"fnnet.callbacks.EarlyStopping(patience=3)"
        )
    return Function(callback)
