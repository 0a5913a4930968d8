"""What the processes of a run must agree on, so that all of them go on or none does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from jax.experimental import multihost_utils

from fnnet import checks

T = TypeVar("T")


def agreed(place: str, processes: int, own: Callable[[], tuple[T, Mapping[str, Any]]]) -> T:
    """Return what ``own()`` returns, if it succeeds in all processes with the same facts by name.

    Otherwise all processes raise an error that says what failed, or what differs.
    """
    if processes == 1:
        return own()[0]
    try:
        result, facts = own()
        message: dict[str, Any] = {"facts": dict(facts)}
    except Exception as error:
        gathered({"error": f"{type(error).__name__}: {error}"})
        raise
    everyone = gathered(message)
    for process, other in enumerate(everyone):
        if "error" in other:
            raise RuntimeError(f"{place}: the data of process {process} cannot be used: {other['error']}")
    for name in {name: None for other in everyone for name in other["facts"]}:
        values = [other["facts"].get(name) for other in everyone]
        checks.require(
            all(value == values[0] for value in values),
            f"{place}: the processes have as {name} {', '.join(map(str, values))}, in their order; "
            f"expected the same in each",
        )
    return result


def together(place: str, processes: int, chunks: Iterator[T]) -> Iterator[T]:
    """Yield the chunks of this process as long as all processes have one; if one has none, all raise an error."""
    if processes == 1:
        yield from chunks
        return
    while True:
        chunk, failure = None, None
        try:
            chunk = next(chunks, None)
        except Exception as error:
            failure = error
        status = "failed" if failure is not None else "ended" if chunk is None else "more"
        statuses = [message["status"] for message in gathered({"status": status})]
        if failure is not None:
            raise failure
        if "failed" in statuses:
            raise RuntimeError(
                f"{place}: process {statuses.index('failed')} could not make the next batch of its stream, see what it "
                f"printed; all processes stop"
            )
        checks.require(
            len(set(statuses)) == 1,
            f"{place}: the stream of process {statuses.index('ended') if 'ended' in statuses else 0} ended before the "
            f"others; expected as many batches in each process",
        )
        if chunk is None:
            return
        yield chunk


def gathered(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of all processes, in their order."""
    text = np.frombuffer(json.dumps(message).encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(text)))).tolist()
    padded = np.zeros(max(lengths), np.uint8)
    padded[: len(text)] = text
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]
