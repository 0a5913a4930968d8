"""Batches put together for the device: one transfer and one call of a program for several updates."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import jax
import numpy as np

from fnnet.data.batches import HostBatch, NumpyArray, native

ALIGNMENT = 64  # bytes
MOST_BATCHES = 64  # in a chunk: enough for the call to be nothing beside its updates

Memory = Callable[[tuple[int, ...], Any], NumpyArray]  # (shape, dtype) -> an array, whatever is in it


class Chunk(NamedTuple):
    """``K`` batches of ``B`` examples: ``x (K, B, ...)``, ``y (K, B, ...)``.

    ``sizes (K,)`` says how many examples of each batch are real; batches from ``updates`` on are empty.
    """

    x: Any
    y: Any
    sizes: Any
    updates: Any


def bytes_of(shape: tuple[int, ...], dtype: Any) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def part_of(memory: NumpyArray, shape: tuple[int, ...], dtype: Any) -> NumpyArray:
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + bytes_of(shape, dtype)].view(dtype).reshape(shape)


def aligned(shape: tuple[int, ...], dtype: Any) -> NumpyArray:
    """New memory at an address that the CPU's device takes over as it is, without a copy."""
    return part_of(np.empty(bytes_of(shape, dtype) + ALIGNMENT, np.uint8), shape, dtype)


class Reused:
    """``aligned`` in memory that was used before, as soon as no array is left in it, NumPy's or on a device.

    New memory is slow: the system clears every page of it at its first use, and chunks are often so large that it takes
    them back when they are freed.
    """

    def __init__(self) -> None:
        self.free: dict[int, list[NumpyArray]] = {}

    def __call__(self, shape: tuple[int, ...], dtype: Any) -> NumpyArray:
        size = bytes_of(shape, dtype) + ALIGNMENT
        free = self.free.setdefault(size, [])
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        # No view of ``memory`` to NumPy, but the base of all views of itself: it lives until the last of them is gone.
        whole = np.frombuffer(memoryview(memory), np.uint8)
        weakref.finalize(whole, free.append, memory).atexit = False
        return part_of(whole, shape, dtype)


def batches_per_chunk(batch: HostBatch, chunk_bytes: int, steps: int | None) -> int:
    """As many as fit, no more than an epoch has."""
    fit = chunk_bytes // max(1, sum(part.nbytes for part in batch))
    return int(max(1, min(fit, MOST_BATCHES, steps or MOST_BATCHES)))


def chunks(batches: Iterable[HostBatch], size: int, batch_size: int, memory: Memory = aligned) -> Iterator[Chunk]:
    """``size`` batches at a time, in memory of their own; the last chunk and the last batch are filled up."""
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        sizes = np.zeros(size, np.int32)
        sizes[: len(group)] = [len(batch.x) for batch in group]
        x, y = (stacked([batch[part] for batch in group], size, batch_size, memory) for part in range(2))
        yield Chunk(x, y, sizes, np.int32(len(group)))


def stacked(parts: list[NumpyArray], size: int, batch_size: int, memory: Memory = aligned) -> NumpyArray:
    """``(size, batch_size, ...)`` in the dtype that jax will give it; what is missing repeats what is there.

    Repetitions, not zeros: whatever the network makes of real examples it can make of these.
    """
    result = memory((size, batch_size, *parts[0].shape[1:]), device_dtype(parts[0].dtype))
    for i, part in enumerate(parts):
        result[i, : len(part)] = part
        if len(part) < batch_size:
            result[i, len(part) :] = part[np.arange(batch_size - len(part)) % len(part)]
    result[len(parts) :] = 0
    return result


def device_dtype(dtype: Any) -> Any:
    """The dtype that jax will give it, in this machine's byte order: jax takes no other, such as that of IDX files."""
    return jax.dtypes.canonicalize_dtype(native(dtype))
