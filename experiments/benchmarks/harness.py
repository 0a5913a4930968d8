"""Times pieces of work against each other, each in a process of its own, in turns.

A process of its own: no contender inherits another's threads, allocator or compiled programs, and its peak memory is
its own. In turns (A B C, B C A, ...): whatever the machine does meanwhile falls on all of them, and a ratio is taken
between neighbours in time. Whoever waits is blocked on a pipe and costs nothing.

This module is imported by every contender's process: it needs the standard library only.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

REST = 0.3  # seconds before each round: some libraries' threads go on spinning for a while after their work

Work = Callable[[], float]  # one round of work, finished when it returns; the number is shown, such as the loss reached
Factory = Callable[[Any], Work]  # prepares the work for a task; imports what it measures, so that it may be missing


class Sample(NamedTuple):
    """One round of work in a contender's process."""

    seconds: float
    value: float
    peak_mib: float  # of the process since its start


@dataclass(frozen=True)
class Result:
    """What was measured of one contender, over all rounds."""

    first_seconds: float  # the round before the others, with its compilation
    seconds: tuple[float, ...]
    value: float  # what the last round returned
    peak_mib: float


class Comparison(NamedTuple):
    """The results by name and, by name, why a contender was left out."""

    results: dict[str, Result]
    skipped: dict[str, str]


def compare(
    contenders: Mapping[str, Factory],
    task: Any,
    rounds: int,
    announce: Callable[[str], None] = lambda text: None,
    *,
    processes: int = 1,
) -> Comparison:
    """Measure ``factory(task)()`` of every contender, once to warm up and then ``rounds`` times.

    With ``processes`` all of it is done that many times in fresh processes: two processes that run the same program
    differ, in where their memory lies, by more than the rounds of one.

    A factory is a function at the top of a module. One that raises ImportError is left out and named; any other
    exception goes through to the caller, with the traceback of the process it happened in. ``announce`` is told
    what is running.
    """
    for name, number in (("rounds", rounds), ("processes", processes)):
        if number < 1:
            raise ValueError(f"compare: {name} is {number}; expected at least 1")
    taken = [compared_once(contenders, task, rounds, announce) for _ in range(processes)]
    return Comparison(
        {name: joined([one.results[name] for one in taken]) for name in taken[0].results}, taken[0].skipped
    )


def compared_once(
    contenders: Mapping[str, Factory], task: Any, rounds: int, announce: Callable[[str], None]
) -> Comparison:
    pools = {name: ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) for name in contenders}
    skipped: dict[str, str] = {}
    samples: dict[str, list[Sample]] = {}
    try:
        for name, factory in contenders.items():
            announce(f"{name}: preparing")
            with naming(name):
                try:
                    pools[name].submit(prepare, factory, task).result()
                    samples[name] = []
                except ImportError as error:
                    skipped[name] = str(error)
        for number in range(rounds + 1):
            for name in rotated(list(samples), number):
                announce(f"{name}: {f'round {number} of {rounds}' if number else 'warm-up'}")
                time.sleep(REST)
                with naming(name):
                    samples[name].append(pools[name].submit(measure).result())
    finally:
        for pool in pools.values():
            pool.shutdown()
    return Comparison({name: summarized(taken) for name, taken in samples.items()}, skipped)


def ratio(result: Result, reference: Result) -> float:
    """The median over the rounds of ``result``'s seconds divided by ``reference``'s in the same round."""
    return median(ours / theirs for ours, theirs in zip(result.seconds, reference.seconds, strict=True))


def rotated(names: list[str], places: int) -> list[str]:
    """``names`` from another start, so that no one always runs after the same idle time: ``a b c -> b c a``."""
    start = places % max(len(names), 1)
    return names[start:] + names[:start]


def summarized(samples: list[Sample]) -> Result:
    first, *rest = samples
    return Result(first.seconds, tuple(sample.seconds for sample in rest), rest[-1].value, rest[-1].peak_mib)


def joined(results: list[Result]) -> Result:
    """The rounds of several processes as one contender's."""
    seconds = tuple(each for result in results for each in result.seconds)
    return Result(results[0].first_seconds, seconds, results[-1].value, max(result.peak_mib for result in results))


@contextmanager
def naming(contender: str) -> Iterator[None]:
    """Adds the contender's name to an error that comes out of its process."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the process of the contender {contender!r}")
        raise


# What follows runs in a contender's process.

_work: Work  # the work that this process was started for


def prepare(factory: Factory, task: Any) -> None:
    global _work
    _work = factory(task)


def measure() -> Sample:
    start = time.perf_counter()
    value = _work()
    return Sample(time.perf_counter() - start, value, peak_memory_mib())


def peak_memory_mib() -> float:
    """The largest resident memory that this process has had, in MiB."""
    status = Path("/proc/self/status")
    if status.exists() and "VmHWM:" in (text := status.read_text()):
        # Not ru_maxrss: on Linux it starts from the peak of the parent, whose memory the child had until its exec.
        return int(text.split("VmHWM:")[1].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024
