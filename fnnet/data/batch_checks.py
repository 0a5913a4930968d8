"""The checks that every batch of a stream passes on the host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fnnet import checks
from fnnet.data.prefetch import close

NumpyArray = np.ndarray[Any, Any]


class HostBatch(NamedTuple):
    """Inputs and targets in NumPy, examples on the first axis."""

    x: NumpyArray
    y: NumpyArray


def checked_batches(batches: Iterable[Any], batch_size: int, start: int, *, drop_last: bool) -> Iterator[HostBatch]:
    """Yield the batches as NumPy arrays after comparing each with the first; errors name a batch by its number, from 0.

    All batches must have the dtypes of the first and its shapes behind the first axis, no NaN or infinity, and
    ``batch_size`` examples. The last may have fewer, at least one, unless ``drop_last`` leaves it out.
    """
    iterator, first, smaller = numbered(batches, start), None, None
    try:
        for number, given in iterator:
            batch = as_arrays(number, given)
            if first is None:
                first = batch
            check_like(number, batch, start, first)
            if smaller is not None:
                raise ValueError(
                    f"data.Stream: batch {smaller[0]} has {len(smaller[1].x)} examples but batch {number} comes after "
                    f"it; expected {batch_size} in every batch but the last"
                )
            checks.require(
                len(batch.x) <= batch_size,
                f"data.Stream: batch {number} has {len(batch.x)} examples; expected batch_size={batch_size}",
            )
            check_finite(number, batch)
            if len(batch.x) < batch_size:
                smaller = (number, HostBatch(*map(np.array, batch)))  # copied, as its loader is asked for another one
            else:
                yield batch
        if smaller is not None and not drop_last:
            yield smaller[1]
    finally:
        close(iterator)


def numbered(batches: Iterable[Any], start: int) -> Iterator[tuple[int, Any]]:
    """Yield the batches with their numbers; an error of the loader says at which batch it came."""
    iterator, number = iter(batches), start
    try:
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except Exception as error:
                raise RuntimeError(
                    f"data.Stream: batch {number} could not be made: {type(error).__name__}: {error}"
                ) from error
            yield number, batch
            number += 1
    finally:
        close(iterator)


def as_arrays(number: int, batch: Any) -> HostBatch:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(f"data.Stream: batch {number} is a {type(batch).__name__}; expected a pair (x, y)")
    try:
        x, y = (in_native_order(np.asarray(part)) for part in batch)
    except (TypeError, ValueError, RuntimeError) as error:  # such as a ragged list, or a tensor that NumPy cannot see
        raise ValueError(f"data.Stream: batch {number} is not a pair of arrays: {error}") from error
    for name, part in (("x", x), ("y", y)):
        if not (np.issubdtype(part.dtype, np.number) or part.dtype == bool or checks.is_float(part)):
            raise TypeError(f"data.Stream: batch {number} has {name} of dtype {part.dtype}; expected numbers")
    checks.require(
        x.ndim > 0 and y.ndim > 0 and len(x) == len(y),
        f"data.Stream: batch {number} has x of shape {x.shape} and y of shape {y.shape}; expected the same number of "
        f"examples on the first axis of both",
    )
    checks.require(len(x) > 0, f"data.Stream: batch {number} is empty, x has shape {x.shape}; leave empty batches out")
    return HostBatch(x, y)


def in_native_order(array: NumpyArray) -> NumpyArray:
    """Return the array in the byte order of this machine."""
    return array if array.dtype.isnative else array.astype(native(array.dtype))


def native(dtype: Any) -> Any:
    given = np.dtype(dtype)
    return given if given.isnative else given.newbyteorder("=")


def check_like(number: int, batch: HostBatch, start: int, first: HostBatch) -> None:
    for name, part, like in zip(("x", "y"), batch, first, strict=True):
        if part.shape[1:] != like.shape[1:] or part.dtype != like.dtype:
            raise ValueError(
                f"data.Stream: batch {number} has {name} of shape {part.shape} and dtype {part.dtype} but batch "
                f"{start} had {like.shape} and {like.dtype}; only the number of examples in the last batch may differ"
            )


def check_finite(number: int, batch: HostBatch) -> None:
    for name, part in zip(("x", "y"), batch, strict=True):
        if checks.is_float(part) and not np.isfinite(part).all():  # bfloat16 is one, which NumPy does not know
            first = tuple(int(i) for i in np.argwhere(~np.isfinite(part))[0])
            raise ValueError(
                f"data.Stream: batch {number} has {name} with NaN or infinite entries, the first at {first}; "
                f"remove these examples or fill the entries in"
            )
