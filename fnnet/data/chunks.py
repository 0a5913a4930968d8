"""Several batches together: one transfer to the device and one call of a program for several updates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple


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
