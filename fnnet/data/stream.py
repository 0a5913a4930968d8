"""Training data as a stream of chunks; arrays in memory are the simplest case."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np

from fnnet import checks
from fnnet.cpu.memory import aligned
from fnnet.data.batch_checks import HostBatch, NumpyArray, check_finite, checked_batches
from fnnet.data.chunks import MOST_BATCHES, Chunk, chunked, device_dtype
from fnnet.data.prefetch import close
from fnnet.data.shuffling import compiled_order
from fnnet.types import Array, Batch

BATCH_SIZE = 32


class Rows(Protocol):
    """Examples that are read by their numbers: an array in memory, memory-mapped, or anything that behaves like one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, rows: Any) -> Any: ...


@dataclass(frozen=True)
class Stream:
    """Data for ``fit`` and ``evaluate`` that need not fit into memory. Made by ``from_arrays`` and ``from_batches``.

    All batches have ``batch_size`` examples except for the last, which may have fewer and which ``drop_last`` leaves
    out. ``examples`` is the number of examples per epoch, if it is known. A thread reads chunks of as many batches as
    fit into ``chunk_bytes`` (at least one), and keeps ``prefetch`` of them ready on the device.
    """

    batch_size: int
    examples: int | None = None
    drop_last: bool = False
    prefetch: int = 2
    chunk_bytes: int = 16 * 2**20

    def __post_init__(self) -> None:
        for name in ("batch_size", "chunk_bytes"):
            checks.positive_integer("data.Stream", name, getattr(self, name))

    @property
    def steps(self) -> int | None:
        """The number of batches per epoch, or None if the number of examples is not known."""
        if self.examples is None:
            return None
        full, left = divmod(self.examples, self.batch_size)
        return full + (left > 0 and not self.drop_last)

    @property
    def description(self) -> dict[str, Any]:
        """What a run that is continued must have in common with its checkpoint."""
        return {name: getattr(self, name) for name in ("examples", "batch_size", "drop_last", "chunk_bytes")}

    def chunks(self, key: Array, start: int = 0, most: int | None = None) -> Iterator[Chunk]:
        """Yield the batches of an epoch from number ``start`` on in chunks of at most ``most`` batches.

        The same key gives the same batches, so that a run that is continued in the middle of an epoch goes on as if it
        had not been interrupted. Whole chunks come first, then the batches that are left over one by one, then a
        smaller last batch: the compiled programs see at most three shapes.
        """
        raise NotImplementedError

    def first(self, key: Array) -> HostBatch:
        """Return one batch, which tells the shapes and dtypes."""
        chunks = self.chunks(key, 0, 1)
        chunk = next(chunks, None)
        close(chunks)
        if chunk is None:
            raise ValueError(
                f"data.Stream: there is no batch of {self.batch_size} examples in an epoch; "
                f"give more examples, a smaller batch_size, or drop_last=False"
            )
        return HostBatch(chunk.x[0], chunk.y[0])

    def batches_per_chunk(self, batch_bytes: int, most: int | None) -> int:
        """Return how many batches of this size make a chunk.

        Where the number of examples in an epoch is known, its batches are divided evenly, so that few are left over.
        """
        fit = max(1, min(self.chunk_bytes // max(1, batch_bytes), MOST_BATCHES, most or MOST_BATCHES))
        full = (self.examples or 0) // self.batch_size
        return full // -(-full // fit) if full else fit


@dataclass(frozen=True)
class BatchStream(Stream):
    """A stream of batches that ``make(key, start)`` returns, from number ``start`` of the epoch on."""

    make: Callable[[Array, int], Iterable[Any]] = field(kw_only=True)

    def chunks(self, key: Array, start: int = 0, most: int | None = None) -> Iterator[Chunk]:
        batches = checked_batches(self.make(key, start), self.batch_size, start, drop_last=self.drop_last)
        try:
            for first in islice(batches, 1):
                size = self.batches_per_chunk(sum(part.nbytes for part in first), most)
                yield from chunked(chain([first], batches), self.batch_size, size)
        finally:
            close(batches)


@dataclass(frozen=True)
class ArrayStream(Stream):
    """A stream of the examples of two arrays, in the order of ``train_epoch``.

    The examples of a chunk are read at once. Of arrays ``on_device`` they are not read at all: the program of the chunk
    gathers them by their numbers, and an epoch is a single chunk of whole batches, and one of what is left over.
    """

    arrays: tuple[Rows, Rows] = field(kw_only=True)
    shuffle: bool = True
    on_device: bool = False

    @property
    def description(self) -> dict[str, Any]:
        return super().description | {"shuffle": self.shuffle}

    def chunks(self, key: Array, start: int = 0, most: int | None = None) -> Iterator[Chunk]:
        assert self.examples is not None
        full, left = divmod(self.examples, self.batch_size)
        order = np.asarray(compiled_order(key, self.examples, self.shuffle))
        whole = order[: full * self.batch_size].reshape(full, self.batch_size)
        batch_bytes = (
            sum(math.prod(a.shape[1:]) * device_dtype(a.dtype).itemsize for a in self.arrays) * self.batch_size
        )
        size = min(most or full, full) if self.on_device else self.batches_per_chunk(batch_bytes, most)
        while start < full:
            updates = size if start + size <= full else 1
            yield self.chunk(start, whole[start : start + updates])
            start += updates
        if left and not self.drop_last:
            yield self.chunk(full, order[None, full * self.batch_size :])

    def chunk(self, number: int, rows: NumpyArray) -> Chunk:
        """Return the chunk of the examples ``rows (K, B)``, whose first batch has this number."""
        if self.on_device:
            return Chunk(*self.arrays, rows)
        try:
            chunk = Chunk(*(read(part, rows) for part in self.arrays))
        except Exception as error:
            raise RuntimeError(
                f"data.Stream: batches {number} to {number + len(rows) - 1} could not be read: "
                f"{type(error).__name__}: {error}"
            ) from error
        for k in range(len(rows)):
            check_finite(number + k, HostBatch(chunk.x[k], chunk.y[k]))
        return chunk


def read(part: Rows, rows: NumpyArray) -> NumpyArray:
    """Return the examples ``rows (K, B)``, ``(K, B, ...)``, in the dtype and the memory that the device takes over."""
    result = aligned((*rows.shape, *part.shape[1:]), device_dtype(part.dtype))
    flat = result.reshape(-1, *part.shape[1:])
    if isinstance(part, np.ndarray) and part.dtype == result.dtype:
        np.take(part, rows.reshape(-1), axis=0, out=flat, mode="clip")  # "raise" would read into a copy first
    else:
        flat[:] = part[rows.reshape(-1)]
    return result


def as_stream(data: Stream | Batch, batch_size: int | None, *, shuffle: bool, drop_last: bool) -> Stream:
    """Return a stream as it is, and arrays on the device as a stream whose chunk is an epoch."""
    if not isinstance(data, Stream):
        size = BATCH_SIZE if batch_size is None else batch_size
        checks.positive_integer("fit", "batch_size", size)
        check_batch_size("fit", size, len(data[0]))
        return ArrayStream(size, len(data[0]), drop_last, 0, arrays=data, shuffle=shuffle, on_device=True)
    checks.require(
        batch_size in (None, data.batch_size) and shuffle and not drop_last,
        "fit: data is a stream, which has a batch_size, shuffle and drop_last of its own; give them to "
        "fnnet.data.from_arrays or from_batches and leave them out here",
    )
    return data


def from_arrays(
    x: Rows, y: Rows, batch_size: int, *, shuffle: bool = True, drop_last: bool = False, **options: Any
) -> Stream:
    """Return a stream of the examples of two arrays that may be larger than the memory of the device or the machine.

    ``x`` and ``y`` have the examples on the first axis and are read by ``x[rows]``: NumPy's arrays, ``np.memmap`` and
    ``np.load(path, mmap_mode="r")``, or an object of your own with ``shape``, ``dtype`` and ``__getitem__``. The order
    of an epoch is that of ``fnnet.train_epoch``, ``jax.random.permutation(key, N)``, or that of the arrays without
    ``shuffle``: a network learns the same from a stream as from arrays on the device, up to rounding. ``options`` are
    ``prefetch`` and ``chunk_bytes`` of ``Stream``.
    """
    checks.positive_integer("data.from_arrays", "batch_size", batch_size)
    examples = len_of(x, "x")
    checks.require(
        examples == len_of(y, "y") and examples > 0,
        f"data.from_arrays: x has shape {tuple(x.shape)} and y has shape {tuple(y.shape)}; expected the same number of "
        f"examples, at least one, on the first axis of both",
    )
    check_batch_size("data.from_arrays", batch_size, examples)
    return ArrayStream(batch_size, examples, drop_last, **checked(options), arrays=(x, y), shuffle=shuffle)


def from_batches(
    source: Iterable[Any] | Callable[..., Iterable[Any]],
    batch_size: int | None = None,
    *,
    examples: int | None = None,
    drop_last: bool | None = None,
    **options: Any,
) -> Stream:
    """Return a stream of batches ``(x, y)`` made elsewhere: by a PyTorch ``DataLoader``, a grain dataset, a function.

    ``source`` is an iterable that can be gone through once per epoch, or a function that returns one. A function with a
    parameter named ``key`` receives a key for the order of the epoch, the same for the same epoch of a run: with grain,
    ``lambda key: grain.MapDataset.source(examples).shuffle(seed=int(jax.random.bits(key))).batch(64)``, and
    ``[process::processes]`` behind ``source(...)`` for the part of one of several processes. A generator is refused, as
    it would be empty after the first epoch.

    ``batch_size``, ``examples`` and ``drop_last`` default to those of a ``DataLoader``: its ``batch_size``, the length
    of its ``sampler`` or else of its ``dataset``, and its ``drop_last``. Other sources need the batch size.

    A run that is continued in the middle of an epoch goes on with ``source[start]`` where the batches can be indexed,
    as those of a list or of a ``grain.MapDataset``; otherwise the batches before it are made and thrown away.
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
    if drop_last is None:
        drop_last = bool(getattr(source, "drop_last", False))

    def make(key: Array, start: int) -> Iterator[Any]:
        epoch: Any = epoch_of(source, key)
        if hasattr(epoch, "__getitem__") and isinstance(epoch, Sized):
            indexed: Any = epoch
            yield from (indexed[number] for number in range(start, len(epoch)))
            return
        batches = iter(epoch)
        try:
            yield from islice(batches, start, None)
        finally:
            close(batches)

    return BatchStream(int(size), examples, drop_last, **checked(options), make=make)  # type: ignore[arg-type]


def checked(options: dict[str, Any]) -> dict[str, Any]:
    checks.positive_integer("data.Stream", "prefetch", options.get("prefetch", 1))
    return options


def epoch_of(source: Any, key: Array) -> Any:
    if isinstance(source, Iterable):
        return source
    takes_key = "key" in inspect.signature(source).parameters
    return source(key=key) if takes_key else source()


def check_batch_size(place: str, batch_size: int, examples: int) -> None:
    checks.require(
        batch_size <= examples,
        f"{place}: batch_size is {batch_size} but there are only {examples} examples; "
        f"use a batch size of at most {examples}, which is the whole set at once",
    )


def len_of(rows: Rows, name: str = "x") -> int:
    if not hasattr(rows, "shape") or not hasattr(rows, "dtype") or len(rows.shape) < 1:
        raise TypeError(
            f"data.from_arrays: {name} is a {type(rows).__name__} without examples on a first axis; "
            f"expected an array, or something with shape, dtype and [rows]"
        )
    return int(rows.shape[0])
