"""Training data as a stream of chunks; arrays in memory are the simplest case."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import jax
import numpy as np

from fnnet import checks
from fnnet.cpu.memory import aligned
from fnnet.cpu.permutation import permutation
from fnnet.data.batches import HostBatch, NumpyArray, check_finite, checked_batches
from fnnet.data.chunks import MOST_BATCHES, Chunk, chunked, device_dtype
from fnnet.data.prefetch import close
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

    ``make(key, start)`` returns the batches ``(x, y)`` of one epoch, from number ``start`` on, as anything that NumPy
    accepts as arrays. Their order is up to ``make``, but it must return the same batches for the same ``key``, so that a
    run that is continued in the middle of an epoch goes on as if it had not been interrupted.

    All batches have ``batch_size`` examples except for the last, which may have fewer and which ``drop_last`` leaves
    out. ``examples`` is the number of examples per epoch, if it is known.

    A thread reads chunks of as many batches as fit into ``chunk_bytes`` (at least one), and keeps ``prefetch`` of them
    ready on the device.
    """

    make: Callable[[Array, int], Iterable[Any]]
    batch_size: int
    examples: int | None = None
    drop_last: bool = False
    prefetch: int = 2
    chunk_bytes: int = 16 * 2**20

    def __post_init__(self) -> None:
        for name in ("batch_size", "prefetch", "chunk_bytes"):
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

    def batches(self, key: Array, start: int = 0) -> Iterator[HostBatch]:
        """Yield the checked batches of an epoch from number ``start`` on, as NumPy arrays."""
        return checked_batches(self.make(key, start), self.batch_size, start, drop_last=self.drop_last)

    def first(self, key: Array) -> HostBatch:
        """Return one batch, which tells the shapes and dtypes."""
        batches = self.batches(key)
        try:
            batch = next(batches, None)
        finally:
            close(batches)
        if batch is None:
            raise ValueError(
                f"data.Stream: there is no batch of {self.batch_size} examples in an epoch; "
                f"give more examples, a smaller batch_size, or drop_last=False"
            )
        return batch

    def chunks(self, key: Array, start: int = 0, most: int | None = None) -> Iterator[Chunk]:
        """Yield the batches of an epoch from number ``start`` on in chunks of at most ``most`` batches."""
        batches = self.batches(key, start)
        try:
            for first in islice(batches, 1):
                size = batches_per_chunk(sum(part.nbytes for part in first), self, most)
                yield from chunked((batch for part in ([first], batches) for batch in part), self.batch_size, size)
        finally:
            close(batches)


@dataclass(frozen=True)
class ArrayStream(Stream):
    """A stream of two arrays, which reads the examples of a whole chunk at once."""

    arrays: tuple[Rows, Rows] = ()  # type: ignore[assignment]
    shuffle: bool = True

    @property
    def description(self) -> dict[str, Any]:
        return super().description | {"shuffle": self.shuffle}

    def order(self, key: Array) -> NumpyArray:
        """Return the order of the examples in an epoch, that of ``train_epoch``."""
        examples = len_of(self.arrays[0])
        return np.asarray(compiled_permutation(key, examples)) if self.shuffle else np.arange(examples)

    def chunks(self, key: Array, start: int = 0, most: int | None = None) -> Iterator[Chunk]:
        assert self.steps is not None
        x, y = self.arrays
        size = batches_per_chunk(bytes_of(x, self.batch_size) + bytes_of(y, self.batch_size), self, most)
        for number, rows in row_chunks(self, start, size, key):
            try:
                chunk = Chunk(*(read(part, rows) for part in (x, y)))
            except Exception as error:
                raise RuntimeError(
                    f"data.Stream: batches {number} to {number + len(rows) - 1} could not be read: "
                    f"{type(error).__name__}: {error}"
                ) from error
            for k in range(len(rows)):
                check_finite(number + k, HostBatch(chunk.x[k], chunk.y[k]))
            yield chunk


@dataclass(frozen=True)
class MemoryStream(ArrayStream):
    """A stream of two arrays on the device, which gathers the examples of each batch by its compiled program.

    An epoch is a single chunk of whole batches, and one of what is left over.
    """

    prefetch: int = 0

    def __post_init__(self) -> None:
        checks.positive_integer("fit", "batch_size", self.batch_size)
        check_batch_size("fit", self.batch_size, len_of(self.arrays[0]))

    def chunks(self, key: Array, start: int = 0, most: int | None = None) -> Iterator[Chunk]:
        assert self.steps is not None
        assert self.examples is not None
        for _, rows in row_chunks(self, start, min(most or self.steps, max(1, self.examples // self.batch_size)), key):
            yield Chunk(*self.arrays, rows)


def row_chunks(stream: ArrayStream, start: int, size: int, key: Array) -> Iterator[tuple[int, NumpyArray]]:
    """Yield the number of the first batch of each chunk, and the rows ``(K, B)`` of its examples."""
    order, examples, batch_size = stream.order(key), stream.examples or 0, stream.batch_size
    full, left = divmod(examples, batch_size)
    whole = order[: full * batch_size].reshape(full, batch_size)
    while start < full:
        updates = size if start + size <= full else 1
        yield start, whole[start : start + updates]
        start += updates
    if left and not stream.drop_last:
        yield full, order[full * batch_size :][None]


def read(part: Rows, rows: NumpyArray) -> NumpyArray:
    """Return the examples ``rows (K, B)``, ``(K, B, ...)``, in the dtype and the memory that the device takes over."""
    dtype = device_dtype(part.dtype)
    result = aligned((*rows.shape, *part.shape[1:]), dtype)
    flat = result.reshape(-1, *part.shape[1:])
    contiguous = int(rows[-1, -1]) - int(rows[0, 0]) == rows.size - 1 and bool((np.diff(rows.reshape(-1)) == 1).all())
    if contiguous:
        flat[:] = part[int(rows[0, 0]) : int(rows[-1, -1]) + 1]
    elif isinstance(part, np.ndarray) and part.dtype == dtype:
        np.take(part, rows.reshape(-1), axis=0, out=flat, mode="clip")  # "raise" would read into a copy first
    else:
        flat[:] = part[rows.reshape(-1)]
    return result


def bytes_of(part: Rows, examples: int) -> int:
    return math.prod((examples, *part.shape[1:])) * np.dtype(device_dtype(part.dtype)).itemsize


def batches_per_chunk(batch_bytes: int, stream: Stream, most: int | None) -> int:
    """Return how many batches of this size make a chunk of at most ``chunk_bytes`` and at most ``most`` batches.

    Where the number of examples in an epoch is known, its batches are divided evenly, so that few are left over.
    """
    fit = max(1, min(stream.chunk_bytes // max(1, batch_bytes), MOST_BATCHES, most or MOST_BATCHES))
    full = (stream.examples or 0) // stream.batch_size
    return full // -(-full // fit) if full else fit


compiled_permutation = jax.jit(permutation, static_argnums=1)


def as_stream(data: Stream | Batch, batch_size: int | None, *, shuffle: bool, drop_last: bool) -> Stream:
    """Return the data of ``fit`` as a stream: a stream as it is, arrays on the device as one whose chunk is an epoch."""
    if not isinstance(data, Stream):
        size = BATCH_SIZE if batch_size is None else batch_size
        options: Any = {"arrays": data, "shuffle": shuffle}
        return MemoryStream(no_batches, size, len(data[0]), drop_last, **options)
    checks.require(
        batch_size in (None, data.batch_size) and shuffle and not drop_last,
        "fit: data is a stream, which has a batch_size, shuffle and drop_last of its own; give them to "
        "fnnet.data.from_arrays or from_batches and leave them out here",
    )
    return data


def no_batches(key: Array, start: int) -> Iterator[Any]:
    """The examples of a ``MemoryStream`` never pass through the host."""
    return iter(())


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

    def make(key: Array, start: int) -> Iterator[Any]:
        for _, rows in row_chunks(stream, start, 1, key):
            yield x[rows[0]], y[rows[0]]

    stream = ArrayStream(make, batch_size, examples, drop_last, **options, arrays=(x, y), shuffle=shuffle)
    return stream


def from_batches(
    source: Iterable[Any] | Callable[..., Iterable[Any]],
    batch_size: int | None = None,
    *,
    examples: int | None = None,
    drop_last: bool | None = None,
    **options: Any,
) -> Stream:
    """Return a stream of batches ``(x, y)`` that somebody else makes: a PyTorch ``DataLoader``, a grain dataset, a list.

    ``source`` is an iterable that can be gone through once per epoch, or a function that returns one. A function with a
    parameter named ``key`` receives a key for the order of the epoch, the same for the same epoch of a run: with grain,
    ``lambda key: grain.MapDataset.source(examples).shuffle(seed=int(jax.random.bits(key))).batch(64)``, and
    ``[process::processes]`` behind ``source(...)`` for the part of one of several processes. A generator is refused, as
    it would be empty after the first epoch.

    ``batch_size``, ``examples`` and ``drop_last`` default to those of a ``DataLoader``: its ``batch_size``, the length
    of its ``sampler`` or else of its ``dataset``, and its ``drop_last``. For other sources the batch size must be given.

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
        epoch = epoch_of(source, key)
        if hasattr(epoch, "__getitem__") and isinstance(epoch, Sized):
            yield from (epoch[number] for number in range(start, len(epoch)))
            return
        batches = iter(epoch)
        try:
            yield from islice(batches, start, None)
        finally:
            close(batches)

    return Stream(make, int(size), examples, drop_last, **options)  # type: ignore[arg-type]


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
