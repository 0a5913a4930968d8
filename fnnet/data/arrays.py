"""Streams of arrays that may be larger than the device's memory, or the machine's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from fnnet import checks
from fnnet.data.batches import HostBatch, NumpyArray, all_finite, check_finite
from fnnet.data.chunks import Chunk, Memory, aligned, device_dtype
from fnnet.data.stream import Last, Stream
from fnnet.types import Array


class Rows(Protocol):
    """Examples that are read by their numbers: an array, in memory or memory-mapped, or anything that does as one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, rows: Any) -> Any: ...


@dataclass(frozen=True)
class ArrayStream(Stream):
    """A stream that reads the examples of a chunk in one go, into the memory that goes to the device."""

    arrays: tuple[Rows, Rows] | None = None
    shuffle: bool = True

    def chunks(self, key: Array, start: int, size: int, memory: Memory = aligned) -> Iterator[Chunk]:
        assert self.arrays is not None
        assert self.steps is not None
        assert self.examples is not None
        order = self.order(key)
        for first in range(start, self.steps, size):
            updates = min(size, self.steps - first)
            at = first * self.batch_size
            count = min(updates * self.batch_size, self.examples - at)
            rows = slice(at, at + count) if order is None else order[at : at + count]
            sizes = np.zeros(size, np.int32)
            sizes[:updates] = np.minimum(self.batch_size, count - np.arange(updates) * self.batch_size)
            try:
                x, y = (self.read(part, rows, count, int(sizes[updates - 1]), size, memory) for part in self.arrays)
            except Exception as error:
                raise RuntimeError(
                    f"data.Stream: batches {first} to {first + updates - 1} could not be read: "
                    f"{type(error).__name__}: {error}"
                ) from error
            for i in range(updates if not (all_finite(x) and all_finite(y)) else 0):
                check_finite(first + i, HostBatch(x[i], y[i]))
            yield Chunk(x, y, sizes, np.int32(updates))

    def order(self, key: Array) -> NumpyArray | None:
        return permutation(key, self.examples or 0) if self.shuffle else None

    def read(self, part: Rows, rows: Any, count: int, last: int, size: int, memory: Memory) -> NumpyArray:
        """``(size, batch_size, ...)``, the last batch filled up with repetitions of its ``last`` real examples."""
        dtype = device_dtype(part.dtype)
        result = memory((size, self.batch_size, *part.shape[1:]), dtype)
        flat = result.reshape(-1, *part.shape[1:])
        if isinstance(part, np.ndarray) and part.dtype == dtype and not isinstance(rows, slice):
            np.take(part, rows, axis=0, out=flat[:count], mode="clip")  # rows exist; "raise" would read into a copy
        else:
            flat[:count] = part[rows]
        missing = -count % self.batch_size
        flat[count : count + missing] = flat[count - last : count][np.arange(missing) % last]
        flat[count + missing :] = 0
        return result


def from_arrays(
    x: Rows, y: Rows, batch_size: int, *, shuffle: bool = True, last: Last = "pad", **options: Any
) -> Stream:
    """A stream of the examples of two arrays that may be larger than the device's memory, or the machine's.

    ``x`` and ``y`` have the examples on the first axis and are read by ``x[rows]``: NumPy's arrays, ``np.memmap`` and
    ``np.load(path, mmap_mode="r")``, or an object of your own with ``shape``, ``dtype`` and ``__getitem__``. The order
    of an epoch is that of ``fnnet.train_epoch``, ``jax.random.permutation(key, N)``, or the arrays' own without
    ``shuffle``: a network learns the same, up to rounding, from a stream as from arrays on the device, unless it draws
    random numbers in a last batch that is filled up: they are drawn for all of it. ``options`` are ``prefetch`` and
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
        order = permutation(key, examples) if shuffle else None
        for at in range(start * batch_size, examples, batch_size):
            rows = slice(at, min(at + batch_size, examples)) if order is None else order[at : at + batch_size]
            yield x[rows], y[rows]

    return ArrayStream(make, batch_size, examples, last, **options, arrays=(x, y), shuffle=shuffle)


def permutation(key: Array, examples: int) -> NumpyArray:
    """``jax.random.permutation(key, examples)``, the same numbers sorted by NumPy: several times as fast on CPU.

    Positions are sorted by random numbers of 32 bits, and again by new ones until ``3 log₂ N`` bits are used. Number
    and position are one number of 64 bits: NumPy sorts those in vector registers, but an ``argsort`` one by one.
    """
    order = np.arange(examples, dtype=np.int32)
    positions = np.arange(examples, dtype=np.uint64)
    for _ in range(math.ceil(3 * math.log(max(1, examples)) / math.log(2**32 - 1))):
        key, of_round = jax.random.split(key)
        bits = np.asarray(jax.random.bits(of_round, (examples,), np.uint32)).astype(np.uint64)
        # Ties of the bits are decided by position, as a stable sort of the bits would.
        order = order[np.sort(bits << np.uint64(32) | positions) & np.uint64(2**32 - 1)]
    return order


def len_of(name: str, rows: Rows) -> int:
    if not hasattr(rows, "shape") or not hasattr(rows, "dtype") or len(rows.shape) < 1:
        raise TypeError(
            f"data.from_arrays: {name} is a {type(rows).__name__} without examples on a first axis; "
            f"expected an array, or something with shape, dtype and [rows]"
        )
    return int(rows.shape[0])
