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
        """Return ``x (N, 784)`` float32 and ``y = argmax_c ((x − E[x]) T)_c`` int32 for a random ``T``.

        As in MNIST, one entry of ``x`` in five is uniform on (0, 1) and the others are 0. The labels can be learned: a
        falling loss shows that a contender learns, and no unit dies (moments that decay to subnormal numbers would slow
        some libraries down).
        """
        generator = np.random.default_rng(self.seed)
        x = generator.random((self.examples, INPUTS), np.float32)
        # Everything is done in place, so that making the data does not determine the peak memory of a process.
        x *= 5
        x -= 4
        np.maximum(x, 0, out=x)
        teacher = generator.standard_normal((INPUTS, CLASSES), np.float32)
        return x, (x @ teacher - 0.1 * teacher.sum(0)).argmax(1).astype(np.int32)


def batches(x: Array, y: Array, batch_size: int, generator: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """Yield all examples in a new random order, ``batch_size`` at a time; the last batch may be smaller."""
    order = generator.permutation(len(x))
    for start in range(0, len(x), batch_size):
        rows = order[start : start + batch_size]
        yield x[rows], y[rows]


class Training(Protocol):
    """A task on which a network is trained in batches."""

    @property
    def examples(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...


def mean_loss(losses: Sequence[Any], task: Training) -> float:
    """Return the mean loss over the examples, given the mean of each batch of an epoch."""
    starts = np.arange(0, task.examples, task.batch_size)
    return float(np.average(losses, weights=np.diff(starts, append=task.examples)))
