"""The record of a run on disk: a line of JSON per epoch, or files for TensorBoard."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fnnet.training.extras import imported
from fnnet.training.progress import Record


def read_record(path: str | Path) -> list[Record]:
    """The epochs in a record that ``fit`` wrote, in order. A last line that was cut short is left out.

    Numbers that are not finite stand there as the strings ``"nan"``, ``"inf"`` and ``"-inf"``, which every reader of
    JSON takes; here they are numbers again.
    """
    lines, _ = whole_lines(Path(path))
    return [{name: float(n) if isinstance(n, str) else n for name, n in line.items()} for line in lines]


def whole_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines that end, and where each of them does, in bytes. One that is no JSON object is an error."""
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
            raise ValueError(f"record: line {number} of {path} is no JSON object; this is no record of fnnet's")
        lines.append(numbers)
        ends.append(end)
    return lines, ends


class JsonLines:
    """Appends a line per epoch, each flushed to disk as it is written.

    A file that is there is gone on with, after its last whole line. With ``resumed_at``, the number of updates at
    which a resumed run goes on, the lines of later epochs at its end are removed: they will be made again. Lines of
    other runs stay: ``first_line(path, there)`` tells after how many of those that are there the run's own begin.
    """

    def __init__(
        self, path: str | Path, resumed_at: int | None, first_line: Callable[[Path, int], int] | None = None
    ) -> None:
        self.path = Path(path)
        with self.explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines, ends = whole_lines(self.path) if self.path.exists() else ([], [])
            first = len(lines) if first_line is None else first_line(self.path, len(lines))
            if self.path.exists():
                while resumed_at is not None and len(lines) > first and lines[-1].get("step", 0) > resumed_at:
                    lines.pop()
                    ends.pop()
                os.truncate(self.path, ends[-1] if ends else 0)
            self.file = self.path.open("ab")

    def write(self, record: Record) -> None:
        numbers = {name: n if math.isfinite(n) else str(float(n)) for name, n in record.items()}
        with self.explained():
            self.file.write((json.dumps(numbers, allow_nan=False) + "\n").encode())
            self.file.flush()
            os.fsync(self.file.fileno())

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"fit: record: {self.path} cannot be written ({error}); what it has is as it was: "
                f"choose a file that you may write to, on a disk with room"
            ) from error

    def close(self) -> None:
        with self.explained():
            self.file.close()


class TensorBoard:
    """Event files for TensorBoard, by tensorboardX: every number of an epoch as a scalar at its step."""

    def __init__(self, directory: str | Path, resumed_at: int | None) -> None:
        writer = imported("fit: tensorboard", "tensorboardX", "tensorboard")
        purge = {} if resumed_at is None else {"purge_step": resumed_at + 1}  # what is made again
        self.writer = writer.SummaryWriter(str(directory), **purge)

    def write(self, record: Record) -> None:
        for name, number in record.items():
            if name not in ("epoch", "step"):
                self.writer.add_scalar(name, number, int(record["step"]))
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
