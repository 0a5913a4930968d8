"""The task that every contender of ``mlp`` trains on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]

INPUTS, CLASSES = 784, 10


@dataclass(frozen=True)
class Task:
    """A network ``784 - hidden - 10`` with ReLU, softmax cross-entropy and Adam, on data in the shape of MNIST."""

    hidden: tuple[int, ...]
    batch_size: int
    examples: int
    seed: int
    learning_rate: float = 1e-3

    @property
    def widths(self) -> tuple[int, ...]:
        return (INPUTS, *self.hidden, CLASSES)

    def data(self) -> tuple[Array, Array]:
        """``x (N, 784)`` float32 and ``y = argmax_c ((x − E[x]) T)_c`` int32, for a random ``T``.

        One entry of ``x`` in five, as in MNIST, is uniform on (0, 1), the others are 0. A network can learn it: a loss
        that falls shows that one does, and no unit dies (decaying moments would slow some libraries down).
        """
        generator = np.random.default_rng(self.seed)
        x = generator.random((self.examples, INPUTS), np.float32)
        # In place, so that a process's peak memory is not that of making its data.
        x *= 5
        x -= 4
        np.maximum(x, 0, out=x)
        teacher = generator.standard_normal((INPUTS, CLASSES), np.float32)
        return x, (x @ teacher - 0.1 * teacher.sum(0)).argmax(1).astype(np.int32)


def batches(x: Array, y: Array, batch_size: int, generator: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """All examples in a new random order, ``batch_size`` at a time; the last batch is as small as it comes."""
    order = generator.permutation(len(x))
    for start in range(0, len(x), batch_size):
        rows = order[start : start + batch_size]
        yield x[rows], y[rows]


class Training(Protocol):
    """A task on which a network is trained, a batch at a time."""

    @property
    def examples(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...


def mean_loss(losses: Sequence[Any], task: Training) -> float:
    """The mean over the examples, from the mean of each batch of an epoch."""
    starts = np.arange(0, task.examples, task.batch_size)
    return float(np.average(losses, weights=np.diff(starts, append=task.examples)))
