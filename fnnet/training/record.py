"""The records of a run on disk: a line of JSON per epoch, or files for TensorBoard."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import jax

from fnnet.extras import imported
from fnnet.training.callback import Callback, Run
from fnnet.training.snapshot import Record
from fnnet.training.state import TrainState


def read_record(path: str | Path) -> list[Record]:
    """Return the records of the epochs in a file that ``JsonLines`` wrote, in order.

    A last line that was cut short is left out. The file has numbers that are not finite as the strings ``"nan"``,
    ``"inf"`` and ``"-inf"``, which every reader of JSON accepts; they are returned as numbers.
    """
    lines, _ = whole_lines(Path(path))
    return [{name: float(n) if isinstance(n, str) else n for name, n in line.items()} for line in lines]


def whole_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the complete lines, and where each of them ends, in bytes. A line that is no JSON object is an error."""
    lines, ends, end = [], [], 0
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        end += len(line)
        try:
            numbers = json.loads(line)
        except ValueError:
            numbers = None
        if not line.endswith(b"\n"):
            break  # cut short by a kill
        if not isinstance(numbers, dict):
            raise ValueError(f"record: line {number} of {path} is not a JSON object; choose a file of JsonLines'")
        lines.append(numbers)
        ends.append(end)
    return lines, ends


class JsonLines(Callback):
    """Append the record of every epoch to a file as a line of JSON, flushed to disk as it is written.

    A file that exists is continued after its last complete line. In a run with checkpoints that goes on from one of
    them, the lines of later epochs are removed, as these epochs will be made again; the lines of other runs stay. Of
    several processes, the first writes. Read the file with ``read_record``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.file = Path(path), cast("IO[bytes] | None", None)

    def start(self, run: Run) -> None:
        self.run, self.first, self.begun, self.file = run, 0, False, None
        if jax.process_index() > 0:
            return
        with self.explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = whole_lines(self.path)[0] if self.path.exists() else []
            self.first = len(lines) if run.saver is None else run.saver.first_line(self.path, len(lines))
            self.file = self.path.open("ab")

    def __call__(self, state: TrainState, record: Record) -> None:
        if self.file is None:
            return
        numbers = {name: n if math.isfinite(n) else str(float(n)) for name, n in record.items()}
        with self.explained():
            if not self.begun:
                self.remove_later_lines()
            self.file.write((json.dumps(numbers, allow_nan=False) + "\n").encode())
            self.file.flush()
            os.fsync(self.file.fileno())

    def remove_later_lines(self) -> None:
        """Remove a line that was cut short, and the lines of this run's epochs after the one it goes on from."""
        lines, ends = whole_lines(self.path)
        resumed_at = self.run.resumed_at
        while resumed_at is not None and len(lines) > self.first and lines[-1].get("step", 0) > resumed_at:
            lines.pop()
            ends.pop()
        os.truncate(self.path, ends[-1] if ends else 0)
        self.begun = True

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"callbacks.JsonLines: {self.path} cannot be written ({error}); what it has is unchanged: "
                f"choose a file that you may write to, on a disk with room"
            ) from error

    def close(self) -> None:
        if self.file is not None:
            with self.explained():
                self.file.close()


class TensorBoard(Callback):
    """Write event files for TensorBoard, by tensorboardX: every number of an epoch as a scalar at its step."""

    def __init__(self, directory: str | Path) -> None:
        self.directory, self.writer = directory, cast(Any, None)
        self.library = imported("callbacks.TensorBoard", "tensorboardX", "tensorboard")

    def start(self, run: Run) -> None:
        self.run, self.writer = run, None

    def __call__(self, state: TrainState, record: Record) -> None:
        if jax.process_index() > 0:
            return
        if self.writer is None:
            resumed_at = self.run.resumed_at
            options = {} if resumed_at is None else {"purge_step": resumed_at + 1}  # what is made again
            self.writer = self.library.SummaryWriter(str(self.directory), **options)
        for name, number in record.items():
            if name not in ("epoch", "step"):
                self.writer.add_scalar(name, number, int(record["step"]))
        self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
