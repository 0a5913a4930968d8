"""Several batches together: one transfer to the device and one call of a program for several updates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from fnnet.cpu.memory import aligned
from fnnet.data.batches import HostBatch, native

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


def chunked(batches: Iterator[HostBatch], batch_size: int, size: int) -> Iterator[Chunk]:
    """Yield ``size`` batches at a time; what is left over at the end, and a smaller batch, one by one.

    So the programs see at most three shapes, whatever the number of batches. Each batch is copied when it comes: a
    loader may use its memory again for the next one.
    """
    x = y = None
    count = 0
    for batch in batches:
        if len(batch.x) < batch_size or size == 1:
            yield from singles(x, y, count)
            count = 0
            yield Chunk(*(stack([part]) for part in batch))
            continue
        if count == 0:
            x, y = (aligned((size, *part.shape), device_dtype(part.dtype)) for part in batch)
        assert x is not None
        assert y is not None
        x[count], y[count] = batch
        count += 1
        if count == size:
            yield Chunk(x, y)
            count = 0
    yield from singles(x, y, count)


def singles(x: Any, y: Any, count: int) -> Iterator[Chunk]:
    for k in range(count):
        yield Chunk(x[k : k + 1], y[k : k + 1])


def stack(parts: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    result = aligned((len(parts), *parts[0].shape), device_dtype(parts[0].dtype))
    for k, part in enumerate(parts):
        result[k] = part
    return result


def device_dtype(dtype: Any) -> Any:
    """Return the dtype that jax will give it, in this machine's byte order: jax takes no other."""
    return jax.dtypes.canonicalize_dtype(native(dtype))
