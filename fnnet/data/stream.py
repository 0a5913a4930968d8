"""Batches that are made on the host as they are needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol

import jax
import numpy as np

from fnnet import checks
from fnnet.data.batches import HostBatch, checked_batches
from fnnet.data.prefetch import close
from fnnet.types import Array

Last = Literal["pad", "drop"]


class Rows(Protocol):
    """Examples that are read by their numbers: an array, in memory or memory-mapped, or anything that does as one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, rows: Any) -> Any: ...


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
    ahead of the one that is in use; so up to ``prefetch + 2`` are in memory at a time.
    """

    make: Callable[[Array, int], Iterable[Any]]
    batch_size: int
    examples: int | None = None
    last: Last = "pad"
    prefetch: int = 2
    chunk_bytes: int = 8 * 2**20

    def __post_init__(self) -> None:
        checks.positive_integer("data.Stream", "batch_size", self.batch_size)
        checks.positive_integer("data.Stream", "prefetch", self.prefetch)
        checks.positive_integer("data.Stream", "chunk_bytes", self.chunk_bytes)
        checks.require(
            self.last in ("pad", "drop"), f"data.Stream: last is {self.last!r}; expected 'pad' or 'drop' (the last batch)"
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


def from_arrays(x: Rows, y: Rows, batch_size: int, *, shuffle: bool = True, last: Last = "pad", **options: Any) -> Stream:
    """A stream of the examples of two arrays that may be larger than the device's memory, or the machine's.

    ``x`` and ``y`` have the examples on the first axis and are read by ``x[rows]``: NumPy's arrays, ``np.memmap`` and
    ``np.load(path, mmap_mode="r")``, or an object of your own with ``shape``, ``dtype`` and ``__getitem__``. The order
    of an epoch is that of ``fnnet.train_epoch``, ``jax.random.permutation(key, N)``, or the arrays' own without
    ``shuffle``: a network learns the same from a stream as from arrays on the device. ``options`` are ``prefetch`` and
    ``chunk_bytes`` of ``Stream``.
    """
    checks.positive_integer("data.from_arrays", "batch_size", batch_size)
    examples = len_of("x", x)
    checks.require(
        examples == len_of("y", y) and examples > 0,
        f"data.from_arrays: x has shape {tuple(x.shape)} and y has shape {tuple(y.shape)}; expected the same number of "
        f"examples, at least one, on the first axis of both",
    )
    checks.require(
        batch_size <= examples,
        f"data.from_arrays: batch_size is {batch_size} but there are only {examples} examples; "
        f"use a batch size of at most {examples}",
    )

    def make(key: Array, start: int) -> Iterator[Any]:
        order = np.asarray(jax.random.permutation(key, examples)) if shuffle else None
        for at in range(start * batch_size, examples, batch_size):
            rows = slice(at, min(at + batch_size, examples)) if order is None else order[at : at + batch_size]
            yield x[rows], y[rows]

    return Stream(make, batch_size, examples, last, **options)


def from_batches(
    source: Iterable[Any] | Callable[..., Iterable[Any]],
    batch_size: int | None = None,
    *,
    examples: int | None = None,
    last: Last = "pad",
    **options: Any,
) -> Stream:
    """A stream of somebody else's batches ``(x, y)``: a PyTorch ``DataLoader``, a grain loader, a generator function.

    ``source`` is an iterable that can be gone through once per epoch, or a function that gives one: of no argument, or
    of the epoch's ``key``, by which its order can be repeated. A generator itself is refused: it would be empty after
    the first epoch. ``batch_size`` and ``examples`` default to those of a ``DataLoader`` (its ``batch_size`` and
    the length of its ``dataset``); else the batch size must be given.

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
    dataset = getattr(source, "dataset", None)
    if examples is None and isinstance(dataset, Sized):
        examples = len(dataset)
    takes_key = callable(source) and bool(inspect.signature(source).parameters)

    def make(key: Array, start: int) -> Iterator[Any]:
        epoch = source(key) if takes_key else source() if callable(source) else source  # type: ignore[operator]
        batches = iter(epoch)
        try:
            yield from islice(batches, start, None)
        finally:
            close(batches)

    return Stream(make, int(size), examples, last, **options)  # type: ignore[arg-type]


def len_of(name: str, rows: Rows) -> int:
    if not hasattr(rows, "shape") or not hasattr(rows, "dtype") or len(rows.shape) < 1:
        raise TypeError(
            f"data.from_arrays: {name} is a {type(rows).__name__} without examples on a first axis; "
            f"expected an array, or something with shape, dtype and [rows]"
        )
    return int(rows.shape[0])
