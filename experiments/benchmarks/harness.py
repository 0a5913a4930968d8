"""Time contenders against each other, each in a process of its own, in turns.

With separate processes no contender inherits the threads, the allocator or the compiled programs of another, and the
peak memory is its own. With turns (A B C, B C A, ...) all contenders see the same changes of the machine's load, and
ratios compare neighbors in time. A contender that waits is blocked on a pipe and costs nothing.

Every contender's process imports this module, so it uses only the standard library.
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

REST = (
    0.3  # seconds before each round, because the threads of some libraries keep spinning for a while after their work
)

Work = Callable[[], float]  # does one round of work and returns a number to show, for example the loss
Factory = Callable[[Any], Work]  # prepares the work for a task; imports its library itself, which may be missing


class Sample(NamedTuple):
    """The measurements of one round in a contender's process."""

    seconds: float
    value: float
    peak_mib: float  # of the process since its start


@dataclass(frozen=True)
class Result:
    """The measurements of one contender over all rounds."""

    first_seconds: float  # of the warm-up round, with compilation
    seconds: tuple[float, ...]
    value: float  # what the last round returned
    peak_mib: float


class Comparison(NamedTuple):
    """The results by contender, and the reasons why other contenders were skipped."""

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

    With ``processes`` all of this is repeated that many times in new processes: two processes that run the same program
    differ by more than the rounds of one process, because their memory lies at different addresses.

    A factory must be a function at the top level of a module. A contender whose factory raises ImportError is skipped
    and listed; any other exception reaches the caller with the traceback of its process. ``announce`` is called with a
    description of what is running.
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
    """Return the median over the rounds of ``result``'s seconds divided by ``reference``'s in the same round."""
    return median(ours / theirs for ours, theirs in zip(result.seconds, reference.seconds, strict=True))


def rotated(names: list[str], places: int) -> list[str]:
    """Return the names rotated by so many places, ``a b c -> b c a``, so that no contender is always the first."""
    start = places % max(len(names), 1)
    return names[start:] + names[:start]


def summarized(samples: list[Sample]) -> Result:
    first, *rest = samples
    return Result(first.seconds, tuple(sample.seconds for sample in rest), rest[-1].value, rest[-1].peak_mib)


def joined(results: list[Result]) -> Result:
    """Return one result with the rounds of several processes."""
    seconds = tuple(each for result in results for each in result.seconds)
    return Result(results[0].first_seconds, seconds, results[-1].value, max(result.peak_mib for result in results))


@contextmanager
def naming(contender: str) -> Iterator[None]:
    """Add the contender's name to an error that comes from its process."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the process of the contender {contender!r}")
        raise


# The functions below run in a contender's process.

_work: Work  # the work that this process was started for


def prepare(factory: Factory, task: Any) -> None:
    global _work
    _work = factory(task)


def measure() -> Sample:
    start = time.perf_counter()
    value = _work()
    return Sample(time.perf_counter() - start, value, peak_memory_mib())


def peak_memory_mib() -> float:
    """Return the largest resident memory that this process has had, in MiB."""
    status = Path("/proc/self/status")
    if status.exists() and "VmHWM:" in (text := status.read_text()):
        # Not ru_maxrss: on Linux it includes the peak of the parent, whose memory the child shares until its exec.
        return int(text.split("VmHWM:")[1].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024
