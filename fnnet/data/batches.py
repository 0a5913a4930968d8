"""What is asked of the batches of a stream."""

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
    """The batches as NumPy arrays, each compared with the first; an error names the batch by its number, from 0.

    All have the first one's shapes behind the first axis and its dtypes, no NaN or infinity, and ``batch_size``
    examples except for the last, which has at least one, and which ``drop_last`` leaves out if it has fewer.
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
                smaller = (number, batch)
            else:
                yield batch
        if smaller is not None and not drop_last:
            yield smaller[1]
    finally:
        close(iterator)


def numbered(batches: Iterable[Any], start: int) -> Iterator[tuple[int, Any]]:
    """``enumerate``, which tells at which batch an error came."""
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
        raise ValueError(f"data.Stream: batch {number} is no pair of arrays: {error}") from error
    for name, part in (("x", x), ("y", y)):
        if not (np.issubdtype(part.dtype, np.number) or part.dtype == bool or is_float(part)):
            raise TypeError(f"data.Stream: batch {number} has {name} of dtype {part.dtype}; expected numbers")
    checks.require(
        x.ndim > 0 and y.ndim > 0 and len(x) == len(y),
        f"data.Stream: batch {number} has x of shape {x.shape} and y of shape {y.shape}; expected the same number of "
        f"examples on the first axis of both",
    )
    checks.require(len(x) > 0, f"data.Stream: batch {number} is empty, x has shape {x.shape}; leave empty batches out")
    return HostBatch(x, y)


def in_native_order(array: NumpyArray) -> NumpyArray:
    """In this machine's byte order."""
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
        if not all_finite(part):
            first = tuple(int(i) for i in np.argwhere(~np.isfinite(part))[0])
            raise ValueError(
                f"data.Stream: batch {number} has {name} with NaN or infinite entries, the first at {first}; "
                f"remove these examples or fill the entries in"
            )


def all_finite(array: NumpyArray) -> bool:
    return not is_float(array) or bool(np.isfinite(array).all())


def is_float(array: NumpyArray) -> bool:
    """Whether jax counts the dtype as floating point: also bfloat16, which NumPy does not know."""
    return checks.is_float(array)
