"""Several batches together: one transfer to the device and one call of a program for several updates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from fnnet.cpu.memory import aligned
from fnnet.data.batch_checks import HostBatch, native

MOST_BATCHES = 64  # in a chunk: enough for the call of a program to be nothing compared to its updates


class Chunk(NamedTuple):
    """``K`` batches of ``B`` examples that go through one program.

    ``x (K, B, ...)`` and ``y (K, B, ...)`` are the batches. With ``rows (K, B)``, ``x (N, ...)`` and ``y (N, ...)`` are
    a whole set in the memory of the device, and ``rows[k]`` are the numbers of the examples of batch ``k``. Where the
    batches are filled up to ``B`` examples, ``weights (K, B)`` are 1 for the real ones and 0 for the others.
    """

    x: Any
    y: Any
    rows: Any = None
    weights: Any = None

    @property
    def updates(self) -> int:
        """The number of batches ``K``."""
        return len(self.x if self.rows is None else self.rows)

    @property
    def scanned(self) -> tuple[Any, ...]:
        """The arrays that have an entry for each batch."""
        if self.rows is not None:
            return (self.rows,)
        return (self.x, self.y) if self.weights is None else (self.x, self.y, self.weights)

    def batch(self, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the batch ``(x, y)`` or ``(x, y, weights)`` that belongs to one entry of each of ``scanned``."""
        if self.rows is None:
            return entries
        (rows,) = entries
        # The rows exist, so that nothing needs to be spent on checking them.
        return tuple(part.at[rows].get(mode="promise_in_bounds") for part in (self.x, self.y))

    def batches(self) -> Iterator[tuple[Any, ...]]:
        """Yield the batches one after the other."""
        for k in range(self.updates):
            yield self.batch(tuple(part[k] for part in self.scanned))


def chunked(batches: Iterable[HostBatch], batch_size: int, size: int) -> Iterator[Chunk]:
    """Yield ``size`` batches at a time; what is left over at the end, and a smaller batch, one by one.

    Each batch is copied when it comes, as a loader may use its memory again for the next one.
    """
    memory, count = None, 0
    for batch in batches:
        if len(batch.x) < batch_size:
            yield from singles(memory, count)
            count = 0
            yield Chunk(*(np.array(part, device_dtype(part.dtype))[None] for part in batch))
            continue
        if count == 0:
            memory = Chunk(*(aligned((size, *part.shape), device_dtype(part.dtype)) for part in batch))
        assert memory is not None
        memory.x[count], memory.y[count] = batch
        count += 1
        if count == size:
            yield memory
            count = 0
    yield from singles(memory, count)


def singles(memory: Chunk | None, count: int) -> Iterator[Chunk]:
    for k in range(count):
        assert memory is not None
        yield Chunk(memory.x[k : k + 1], memory.y[k : k + 1])


def device_dtype(dtype: Any) -> Any:
    """Return the dtype that jax will give it, in this machine's byte order: jax takes no other."""
    return np.dtype(jax.dtypes.canonicalize_dtype(native(dtype)))
