"""Batches that are made on the host as they are needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from fnnet import checks
from fnnet.data.batches import HostBatch, checked_batches
from fnnet.data.chunks import Chunk, Memory, aligned, chunks
from fnnet.data.prefetch import close
from fnnet.types import Array

Last = Literal["pad", "drop"]


@dataclass(frozen=True)
class Stream:
    """Training data for ``fit`` that need not fit into memory. Made by ``from_arrays`` and ``from_batches``.

    ``make(key, start)`` gives the batches ``(x, y)`` of one epoch, from number ``start`` on, as anything that NumPy
    takes for arrays; the order is its own affair, but ``make`` must give the same batches for the same ``key``, for a
    run that is continued in the middle of an epoch to go on as if it had not been interrupted.

    All batches have ``batch_size`` examples except for the last, which may have fewer. ``last="pad"`` fills it up with
    repetitions of its examples, of weight 0 (see ``Cost``): every example counts once, by the one program that all
    batches run through. ``last="drop"`` leaves it out. ``examples`` per epoch, if it is known.

    ``prefetch`` chunks, of as many batches as ``chunk_bytes`` hold and at least one, are made and put on the device
    ahead of the two that are in use; so up to ``prefetch + 3`` are in memory at a time.
    """

    make: Callable[[Array, int], Iterable[Any]]
    batch_size: int
    examples: int | None = None
    last: Last = "pad"
    prefetch: int = 2
    chunk_bytes: int = 16 * 2**20

    def __post_init__(self) -> None:
        checks.positive_integer("data.Stream", "batch_size", self.batch_size)
        checks.positive_integer("data.Stream", "prefetch", self.prefetch)
        checks.positive_integer("data.Stream", "chunk_bytes", self.chunk_bytes)
        checks.require(
            self.last in ("pad", "drop"),
            f"data.Stream: last is {self.last!r}; expected 'pad' or 'drop' (the last batch)",
        )

    @property
    def steps(self) -> int | None:
        """Batches per epoch, if it is known how many examples there are."""
        if self.examples is None:
            return None
        full, left = divmod(self.examples, self.batch_size)
        return full + (left > 0 and self.last == "pad")

    def batches(self, key: Array, start: int = 0) -> Iterator[HostBatch]:
        """The checked batches of an epoch from number ``start`` on, in NumPy; the last as small as it comes."""
        return checked_batches(self.make(key, start), self.batch_size, start, drop_last=self.last == "drop")

    def chunks(self, key: Array, start: int, size: int, memory: Memory = aligned) -> Iterator[Chunk]:
        """The same batches, ``size`` at a time, as they go to the device."""
        return chunks(self.batches(key, start), size, self.batch_size, memory)

    def first_batch(self, key: Array) -> HostBatch:
        """One batch, to know shapes and dtypes by."""
        batches = self.batches(key)
        try:
            batch = next(batches, None)
        finally:
            close(batches)
        if batch is None:
            raise ValueError(
                f"data.Stream: there is no batch of {self.batch_size} examples in an epoch; "
                f"give more examples, a smaller batch_size, or last='pad'"
            )
        return batch


def from_batches(
    source: Iterable[Any] | Callable[..., Iterable[Any]],
    batch_size: int | None = None,
    *,
    examples: int | None = None,
    last: Last | None = None,
    **options: Any,
) -> Stream:
    """A stream of somebody else's batches ``(x, y)``: a PyTorch ``DataLoader``, a grain loader, a generator function.

    ``source`` is an iterable that can be gone through once per epoch, or a function that gives one: of no argument, or
    of the epoch's ``key``, by which its order can be repeated. A generator itself is refused: it would be empty after
    the first epoch. ``batch_size``, ``examples`` and ``last`` default to those of a ``DataLoader``: its ``batch_size``,
    the length of its ``sampler`` or else of its ``dataset``, and "drop" if it has ``drop_last``. Of other sources the
    batch size must be given, and ``last`` is "pad".

    To continue a run in the middle of an epoch, as many batches as were used are made and thrown away.
    """
    place = "data.from_batches"
    if isinstance(source, Iterator):
        raise TypeError(
            f"{place}: source is a {type(source).__name__}, which can be gone through once only; "
            f"pass the function that makes it, for an iterator per epoch"
        )
    if not isinstance(source, Iterable) and not callable(source):
        raise TypeError(f"{place}: source is a {type(source).__name__}; expected an iterable of batches or a function")
    size = getattr(source, "batch_size", None) if batch_size is None else batch_size
    checks.require(size is not None, f"{place}: source does not tell its batch size; pass batch_size")
    for part in (getattr(source, name, None) for name in ("sampler", "dataset")):
        if examples is None and isinstance(part, Sized):
            examples = len(part)
    if last is None:
        last = "drop" if getattr(source, "drop_last", False) else "pad"
    takes_key = callable(source) and bool(inspect.signature(source).parameters)

    def make(key: Array, start: int) -> Iterator[Any]:
        epoch = source(key) if takes_key else source() if callable(source) else source  # type: ignore[operator]
        batches = iter(epoch)
        try:
            yield from islice(batches, start, None)
        finally:
            close(batches)

    return Stream(make, int(size), examples, last, **options)  # type: ignore[arg-type]
