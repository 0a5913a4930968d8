"""Training data as a stream of chunks; arrays in memory are the simplest case."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

import numpy as np

from fnnet import checks
from fnnet.cpu.memory import aligned
from fnnet.data.chunks import Chunk
from fnnet.data.numbers import as_numbers, check_finite, device_dtype
from fnnet.data.shuffling import compiled_order
from fnnet.types import Array, Batch

BATCH_SIZE = 32
CHUNK_BYTES = 16 * 2**20
MOST_BATCHES = 64  # in a chunk: enough for the call of a program to be nothing compared to its updates
Pair = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Stream:
    """Data for ``fit`` and ``evaluate`` that need not fit into memory. Made by ``from_arrays`` and ``from_batches``.

    All batches have ``batch_size`` examples except for the last, which may have fewer and which ``drop_last`` leaves
    out. ``examples`` is the number of examples per epoch, if it is known. A chunk has as many batches as fit into
    ``chunk_bytes`` (at least one), and is read while the device works on the one before it.
    """

    batch_size: int
    examples: int | None = None
    drop_last: bool = False
    chunk_bytes: int = CHUNK_BYTES
    on_device = False  # whether the examples lie on the device, and chunks have only their numbers

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

    def chunks(self, key: Array, start: int = 0, most: int | None = None) -> Generator[Chunk, None, None]:
        """Yield the batches of an epoch from number ``start`` on in chunks of at most ``most`` batches.

        The same key gives the same batches, so that a run that is continued in the middle of an epoch goes on as if it
        had not been interrupted. Whole chunks come first, then the batches that are left over one by one, then a
        smaller last batch: the compiled programs see at most three shapes.
        """
        raise NotImplementedError

    def first(self, key: Array) -> Pair:
        """Return one batch, which tells the shapes and dtypes."""
        with closing(self.chunks(key, 0, 1)) as chunks:
            for chunk in chunks:
                return chunk.x[0], chunk.y[0]
        raise ValueError(
            f"data.Stream: there is no batch of {self.batch_size} examples in an epoch; "
            f"give more examples, a smaller batch_size, or drop_last=False"
        )

    def batches_per_chunk(self, batch_bytes: int, most: int | None) -> int:
        """Return how many batches of this size make a chunk.

        Where the number of examples in an epoch is known, its batches are divided evenly, so that few are left over.
        """
        fit = max(1, min(self.chunk_bytes // max(1, batch_bytes), MOST_BATCHES, most or MOST_BATCHES))
        full = (self.examples or 0) // self.batch_size
        return full // -(-full // fit) if full else fit


@dataclass(frozen=True)
class BatchStream(Stream):
    """A stream of the batches of an iterable, or of one that a function returns for each epoch."""

    source: Any = field(kw_only=True)

    def batches(self, key: Array, start: int) -> Generator[Any, None, None]:
        """Yield the batches of an epoch, as they are given, from number ``start`` on."""
        epoch: Any = self.source
        if not isinstance(epoch, Iterable):
            epoch = called_with(key, epoch)
        if hasattr(epoch, "__getitem__") and hasattr(epoch, "__len__"):
            yield from (epoch[number] for number in range(start, len(epoch)))
        else:
            yield from islice(epoch, start, None)

    def chunks(self, key: Array, start: int = 0, most: int | None = None) -> Generator[Chunk, None, None]:
        first: Pair | None = None
        waiting: list[Pair] = []
        with closing(self.batches(key, start)) as batches:
            for number in count(start):
                try:
                    given = next(batches)
                except StopIteration:
                    break
                except Exception as error:
                    kind = type(error).__name__
                    raise RuntimeError(f"data.Stream: batch {number} could not be made: {kind}: {error}") from error
                x, y = batch = self.checked(f"data.Stream: batch {number}", given, first)
                checks.require(
                    not waiting or len(waiting[-1][0]) == self.batch_size,
                    f"data.Stream: batch {number - 1} has fewer than {self.batch_size} examples but batch {number} "
                    f"comes after it; expected {self.batch_size} in every batch but the last",
                )
                first = first or batch
                waiting.append(batch)
                if len(x) == self.batch_size and len(waiting) == self.batches_per_chunk(x.nbytes + y.nbytes, most):
                    yield Chunk(*map(np.stack, zip(*waiting, strict=True)))
                    waiting = []
        for x, y in waiting:
            if len(x) == self.batch_size or not self.drop_last:
                yield Chunk(x[None], y[None])

    def checked(self, place: str, given: Any, first: Pair | None) -> Pair:
        """Return a copy of a batch, as its loader may use the memory again, after comparing it with the first one."""
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise TypeError(f"{place} is {checks.no_pair(given)}; expected a pair (x, y)")
        x, y = (np.array(as_numbers(place, name, part)) for name, part in zip("xy", given, strict=True))
        checks.require(
            x.ndim > 0 and y.ndim > 0 and 0 < len(x) == len(y) <= self.batch_size,
            f"{place} has x of shape {x.shape} and y of shape {y.shape}; expected the same number of examples on the "
            f"first axis of both, from 1 to batch_size={self.batch_size}",
        )
        for name, part, like in zip("xy", (x, y), first or (x, y), strict=True):
            checks.require(
                part.shape[1:] == like.shape[1:] and part.dtype == like.dtype,
                f"{place} has {name} of shape {part.shape} and dtype {part.dtype} but the first batch had {like.shape} "
                f"and {like.dtype}; only the number of examples in the last batch may differ",
            )
            check_finite(place, name, part)
        return x, y


@dataclass(frozen=True)
class ArrayStream(Stream):
    """A stream of the examples of two arrays, in the order of ``train_epoch``.

    The examples of a chunk are read at once. Of arrays ``on_device`` they are not read at all: the program of the chunk
    gathers them by their numbers, and an epoch is a single chunk of whole batches, and one of what is left over.
    """

    arrays: tuple[Any, Any] = field(kw_only=True)
    shuffle: bool = True
    on_device: bool = False

    @property
    def description(self) -> dict[str, Any]:
        return super().description | {"shuffle": self.shuffle}

    def chunks(self, key: Array, start: int = 0, most: int | None = None) -> Generator[Chunk, None, None]:
        assert self.examples is not None
        full, left = divmod(self.examples, self.batch_size)
        order = np.asarray(compiled_order(key, self.examples, self.shuffle))
        whole = order[: full * self.batch_size].reshape(full, self.batch_size)
        batch_bytes = self.batch_size * sum(a.dtype.itemsize * math.prod(a.shape[1:]) for a in self.arrays)
        size = min(most or full, full) if self.on_device else self.batches_per_chunk(batch_bytes, most)
        while start < full:
            updates = size if start + size <= full else 1
            yield self.chunk(start, whole[start : start + updates])
            start += updates
        if left and not self.drop_last:
            yield self.chunk(full, order[None, full * self.batch_size :])

    def chunk(self, number: int, rows: np.ndarray[Any, Any]) -> Chunk:
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
            for name, part in (("x", chunk.x), ("y", chunk.y)):
                check_finite(f"data.Stream: batch {number + k}", name, part[k])
        return chunk


def read(part: Any, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the examples ``rows (K, B)``, ``(K, B, ...)``, in the dtype and the memory that the device takes over."""
    result = aligned((*rows.shape, *part.shape[1:]), device_dtype("an example", part))
    if type(part) in (np.ndarray, np.memmap) and part.dtype == result.dtype:
        return np.take(part, rows, axis=0, out=result, mode="clip")  # "raise" would read into a copy first
    result[:] = as_numbers("data.Stream", "an example", part[rows.reshape(-1)]).reshape(result.shape)
    return result


def as_stream(data: Stream | Batch, batch_size: int | None, *, shuffle: bool, drop_last: bool) -> Stream:
    """Return a stream as it is, and arrays on the device as a stream whose chunk is an epoch."""
    if not isinstance(data, Stream):
        size = BATCH_SIZE if batch_size is None else batch_size
        check_batch_size("fit", size, len(data[0]))
        return ArrayStream(size, len(data[0]), drop_last, arrays=data, shuffle=shuffle, on_device=True)
    checks.require(
        batch_size in (None, data.batch_size) and shuffle and not drop_last,
        "fit: data is a stream, which has a batch_size, shuffle and drop_last of its own; give them to "
        "fnnet.data.from_arrays or from_batches and leave them out here",
    )
    return data


def from_arrays(
    x: Any, y: Any, batch_size: int, *, shuffle: bool = True, drop_last: bool = False, chunk_bytes: int = CHUNK_BYTES
) -> Stream:
    """Return a stream of the examples of two arrays that may be larger than the memory of the device or the machine.

    ``x`` and ``y`` have the examples on the first axis and are read by ``x[rows]``: NumPy's arrays, ``np.memmap`` and
    ``np.load(path, mmap_mode="r")``, or an object of your own with ``shape``, ``dtype`` and ``__getitem__``. The order
    of an epoch is that of ``fnnet.train_epoch``, ``jax.random.permutation(key, N)``, or that of the arrays without
    ``shuffle``: a network learns the same from a stream as from arrays on the device, up to rounding.
    """
    place = "data.from_arrays"
    for name, rows in (("x", x), ("y", y)):
        given = f"{place}: {name} is of type {type(rows).__name__}"
        if not all(hasattr(rows, each) for each in ("shape", "dtype", "__getitem__")) or len(rows.shape) == 0:
            raise TypeError(f"{given}, without examples; expected an array, or something with shape, dtype and [rows]")
        device_dtype(given, rows)
    checks.require(
        x.shape[0] == y.shape[0] > 0,
        f"{place}: x has shape {tuple(x.shape)} and y has shape {tuple(y.shape)}; expected the same number of "
        f"examples, at least one, on the first axis of both",
    )
    check_batch_size(place, batch_size, x.shape[0])
    return ArrayStream(batch_size, x.shape[0], drop_last, chunk_bytes, arrays=(x, y), shuffle=shuffle)


def from_batches(
    source: Iterable[Any] | Callable[..., Iterable[Any]],
    batch_size: int | None = None,
    *,
    examples: int | None = None,
    drop_last: bool | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Stream:
    """Return a stream of batches ``(x, y)`` made elsewhere: by a PyTorch ``DataLoader``, a grain dataset, a function.

    ``source`` is an iterable that can be gone through once per epoch, or a function that returns one: a generator would
    be empty after the first. A function with a parameter named ``key`` receives a key for the order of the epoch, the
    same for the same epoch of a run, as in ``lambda key: dataset.shuffle(int(jax.random.bits(key))).batch(64)``. Each
    of several processes gives its part, with grain ``MapDataset.source(examples)[process::processes]``.

    ``batch_size``, ``examples`` and ``drop_last`` default to those of a ``DataLoader``: its ``batch_size``, the length
    of its ``sampler`` or else of its ``dataset``, and its ``drop_last``. Other sources need the batch size.

    A run that is continued in the middle of an epoch goes on with ``source[start]`` where the batches can be indexed,
    as those of a list or of a ``grain.MapDataset``; otherwise the batches before it are made and thrown away. Whether
    they are the batches of the interrupted run is not checked, because nothing of them is in a checkpoint.
    """
    place = "data.from_batches"
    given = f"{place}: source is a {type(source).__name__}"
    if isinstance(source, Iterator):
        raise TypeError(f"{given}, which can be gone through once only; pass the function that makes it")
    if not isinstance(source, Iterable) and not callable(source):
        raise TypeError(f"{given}; expected an iterable of batches or a function")
    size = getattr(source, "batch_size", None) if batch_size is None else batch_size
    checks.require(size is not None, f"{place}: source does not tell its batch size; pass batch_size")
    for part in (getattr(source, name, None) for name in ("sampler", "dataset")):
        if examples is None and isinstance(part, Sized):
            examples = len(part)
    if drop_last is None:
        drop_last = bool(getattr(source, "drop_last", False))
    return BatchStream(size, examples, drop_last, chunk_bytes, source=source)  # type: ignore[arg-type]


def called_with(key: Array, function: Callable[..., Any]) -> Any:
    """Call a function with the key where it has a parameter named ``key`` that has no value yet, else without it."""
    try:
        given = inspect.signature(function).bind_partial()
    except ValueError:  # of a builtin function
        return function()
    parameter = given.signature.parameters.get("key")
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if parameter is None or parameter.kind in several or "key" in getattr(function, "keywords", {}):
        return function()
    given.arguments["key"] = key
    given.apply_defaults()  # of the parameters before it, where all are positional
    return function(*given.args, **given.kwargs)


def check_batch_size(place: str, batch_size: int, examples: int) -> None:
    """Raise a ``ValueError`` unless the batch size is from 1 to the number of examples."""
    checks.positive_integer(place, "batch_size", batch_size)
    checks.require(
        batch_size <= examples,
        f"{place}: batch_size is {batch_size} but there are only {examples} examples; "
        f"use a batch size of at most {examples}, which is the whole set at once",
    )
