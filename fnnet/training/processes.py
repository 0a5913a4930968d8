"""Several processes with a stream each: what they tell one another, so that all go on together or all stop.

Before a run, what their streams are. Then with every chunk how much is in it and what follows it: these numbers go
through the program of the chunk, so that no process ever waits for others that have stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from fnnet import checks
from fnnet.data.batches import HostBatch, NumpyArray
from fnnet.data.chunks import Chunk, device_dtype, stacked
from fnnet.data.prefetch import close
from fnnet.data.stream import Stream

ENDED, MORE, FAILED = range(3)  # what follows a chunk


class Telling(NamedTuple):
    """A chunk of this process, what it tells the others with it, and the error for which it stops after it."""

    chunk: Chunk
    numbers: NumpyArray  # (4,): the process, updates, examples, what follows
    fault: Exception | None


class Heard(NamedTuple):
    """Of a chunk of which all processes have given their parts."""

    updates: int
    examples: int
    last: bool


def tellings(chunks: Iterator[Chunk], empty: Chunk) -> Generator[Telling, None, None]:
    """Each chunk, once it is known what follows it; of a stream without any, ``empty``."""
    held: Chunk | None = None
    fault: Exception | None = None
    try:
        while True:
            try:
                following = next(chunks, None)
            except Exception as error:
                following, fault = None, error
            if held is not None or following is None:
                chunk = empty if held is None else held
                follows = MORE if following is not None else ENDED if fault is None else FAILED
                numbers = np.array([jax.process_index(), chunk.updates, chunk.sizes.sum(), follows], np.int32)
                yield Telling(chunk, numbers, fault)
            if following is None:
                return
            held = following
    finally:
        close(chunks)


def heard(place: str, told: Any, fault: Exception | None, done: int) -> Heard:
    """From what all have told, ``(devices, 4)``, after ``done`` batches: the same in all processes, or an error."""
    processes, updates, examples, follows = np.unique(np.asarray(told), axis=0).T
    if fault is not None:
        raise fault
    if (follows == FAILED).any():
        raise RuntimeError(
            f"{place}: process {processes[follows == FAILED][0]} could not make the next batch of its stream, see what "
            f"it said; all processes stop"
        )
    counts = [f"{done + n}{' or more' * int(f == MORE)}" for n, f in zip(updates, follows, strict=True)]
    checks.require(
        len(set(counts)) == 1,
        f"{place}: the streams of the processes gave {', '.join(counts)} batches, in their order; expected as many in "
        f"each: divide the examples anew, or leave the last batches out",
    )
    return Heard(int(updates[0]), int(examples.sum()), bool(follows[0] == ENDED))


def telling(function: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """``function(state, chunk) -> (state, metrics)`` that also takes what is told, and gives it back as a metric."""

    def program(state: Any, chunk: Chunk, told: Any) -> tuple[Any, dict[str, Any]]:
        state, metrics = function(state, chunk)
        return state, metrics | {"told": told}

    return program


def agreed(place: str, stream: Stream, first: Callable[[], HostBatch]) -> HostBatch:
    """This process's first batch, if it can be made in all and the streams fit together."""
    batch: HostBatch | None = None
    fault: Exception | None = None
    try:
        batch = first()
    except Exception as error:
        fault = error
    mine = {"fault": f"{type(fault).__name__}: {fault}"} if batch is None else facts(stream, batch)
    check_alike(place, [json.loads(text) for text in gathered(json.dumps(mine))], fault)
    assert batch is not None
    return batch


def facts(stream: Stream, batch: HostBatch) -> dict[str, Any]:
    names = ("examples", "batch_size", "last", "chunk_bytes", "shuffle")
    about = {name: getattr(stream, name, None) for name in names}
    kinds = {name: f"{device_dtype(part.dtype)} {part.shape[1:]}" for name, part in batch._asdict().items()}
    return about | {f"{name} of an example": kind for name, kind in kinds.items()}


def check_alike(place: str, told: list[dict[str, Any]], fault: Exception | None = None) -> None:
    """All processes end here with an error, or none does."""
    if fault is not None:
        raise fault
    for process, mine in enumerate(told):
        if "fault" in mine:
            raise RuntimeError(f"{place}: the stream of process {process} cannot be used: {mine['fault']}")
    for name in told[0]:
        values = [mine[name] for mine in told]
        advice = ": give all as many, or divide the examples anew" if name == "examples" else ""
        checks.require(
            all(value == values[0] for value in values),
            f"{place}: the streams of the processes have as {name} {', '.join(map(str, values))}, in their order; "
            f"expected the same in each{advice}",
        )


def gathered(text: str) -> list[str]:
    """The texts of all processes, in their order."""
    mine = np.frombuffer(text.encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(mine)))).tolist()
    padded = np.zeros(max(lengths), np.uint8)
    padded[: len(mine)] = mine
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]


def whole_batches(batches: Iterable[HostBatch], batch_size: int) -> Iterator[tuple[HostBatch, NumpyArray]]:
    """The whole batches in every process, each part filled up, and which of the examples are real."""
    iterator = iter(batches)
    while True:
        fault: Exception | None = None
        try:
            batch = next(iterator, None)
        except Exception as error:
            batch, fault = None, error
        mine = np.int32(0 if batch is None else len(batch.x))
        sizes = np.asarray(multihost_utils.process_allgather(mine))
        if fault is not None:
            raise fault
        if batch is None or sizes.min() == 0:
            return
        parts = [multihost_utils.process_allgather(stacked([part], 1, batch_size)[0]) for part in batch]
        x, y = (np.asarray(part).reshape(-1, *part.shape[2:]) for part in parts)
        yield HostBatch(x, y), (np.arange(batch_size) < sizes[:, None]).reshape(-1)
