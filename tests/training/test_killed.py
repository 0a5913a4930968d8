"""Runs that are killed, and resumed in new processes, end with the bits of the one that was not."""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnnet import read_record
from tests.training.resuming import child

KILLS = 20
PROCESSES = multiprocessing.get_context("forkserver")  # real processes that share the time of the imports


def started(*arguments: Any) -> tuple[Any, Any]:
    PROCESSES.set_forkserver_preload(["jax", "orbax.checkpoint", "fnnet"])
    here, there = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=child, args=(there, *arguments))
    process.start()
    there.close()
    return process, here


def heard(connection: Any) -> list[tuple[str, Any]]:
    """All that a process sent, until it ended."""
    messages = []
    try:
        while True:
            messages.append(connection.recv())
    except (EOFError, ConnectionResetError):
        return messages


def finished(*arguments: Any) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    process, connection = started(*arguments)
    messages = heard(connection)
    process.join()
    assert process.exitcode == 0
    return messages[-1][1], messages


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """``kill -9``, during saves too: nothing reported saved is lost, and the end is that of the uninterrupted run.

    The kills follow a random number of messages, so that a slow machine gets as far as a fast one.
    """
    directory, record, cache = str(tmp_path / "run"), tmp_path / "record.jsonl", str(tmp_path / "cache")
    uninterrupted, _ = finished(cache, None, None)
    random, saved, killed = np.random.default_rng(0), 0, 0
    for _ in range(KILLS):
        process, connection = started(cache, directory, str(record))
        first = connection.recv()  # of the epoch with which it goes on
        assert first[0] == "epoch"
        assert first[1] > saved, "a checkpoint that was reported saved is lost"
        messages = [connection.recv() for _ in range(random.integers(6))]
        process.kill()
        process.join()
        killed += process.exitcode == -9
        saved = max([saved, *(n for event, n in messages + heard(connection) if event == "saved")])
        steps = [line["step"] for line in read_record(record)]
        assert steps == [3 * (i + 1) for i in range(len(steps))]
    assert killed == KILLS, "the run was over too soon: give it more epochs"
    assert saved > 0
    resumed, _ = finished(cache, directory, str(record))
    assert resumed == uninterrupted
    for name, numbers in uninterrupted["history"].items():
        assert [line[name] for line in read_record(record)] == numbers
