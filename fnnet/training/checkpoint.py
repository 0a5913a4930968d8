"""Checkpoints of a run on disk, by orbax: asynchronous and atomic; the last few and the best are kept."""

from __future__ import annotations

import json
import math
import os
import socket
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import jax

from fnnet import checks
from fnnet.extras import imported
from fnnet.training.snapshot import (
    Record,
    Snapshot,
    arrays_of,
    differences,
    fault_of_table,
    kinds_of,
    restored,
    table_of,
)
from fnnet.training.sums import damaged_files, write_sums

SHOWN = 8  # of the differences from another run
LOCK = "lock.json"  # held, and written to, by the process that saves there
ALLOWED = ("cost", "optimizer", "value_and_grad", "augment", "data", "precision")
NOTE = "record.json"  # the number of lines in each record file that were there before this run


@dataclass(frozen=True)
class Checkpoint:
    """The directory and the times at which ``fit`` saves a run. The same call of ``fit`` goes on from the last save.

    Saved are parameters, optimizer state, key, step, the place in the order of the examples, the records and what
    callbacks remember, while training goes on: after every ``every`` epochs and at the end; with ``updates``, also
    after every ``updates`` updates of an epoch, which then goes through the device in chunks of at most that many. A
    checkpoint appears under its number of updates, complete or not at all. The last ``keep`` are kept, and the one with
    the lowest validation cost. A state that is not finite is not saved.

    ``on_saved(step)`` is called, between two chunks, when a checkpoint is complete and its checksums are written: from
    then on no kill can lose it.

    A run goes on from a checkpoint of the same cost, optimizer, data, key and so on, with all their numbers. With
    ``allow=("optimizer",)`` the optimizer may be another, such as one with another learning rate, if the arrays of its
    state are the same; so may ``"cost"``, ``"value_and_grad"``, ``"augment"``, ``"data"`` and ``"precision"`` be.
    Data in memory, and those of ``from_arrays``, are compared by their shapes and by checksums of 100 of their
    examples, evenly spread: a change of others is not seen. Of the batches of ``from_batches`` only the number of
    examples, the batch size and ``drop_last`` are compared.

    ``fit`` raises a ``CheckpointError`` where the directory cannot be written or another run is saving to it, and where
    the checkpoint to go on from is damaged, not of this kind, or of another run: the message says what differs, and
    names the last checkpoint before it that would do, for ``go_back``. Nothing that was saved is removed.
    """

    directory: str | Path
    every: int = 1
    updates: int | None = None
    keep: int = 3
    on_saved: Callable[[int], Any] | None = None
    allow: Collection[str] = ()

    def __post_init__(self) -> None:
        checks.require(
            not isinstance(self.allow, str) and set(self.allow) <= set(ALLOWED),
            f"Checkpoint: allow is {self.allow!r}; expected a tuple of names from {', '.join(ALLOWED)}",
        )
        checks.positive_integer("Checkpoint", "every", self.every)
        checks.positive_integer("Checkpoint", "keep", self.keep)
        if self.updates is not None:
            checks.positive_integer("Checkpoint", "updates", self.updates)


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read, or is of another run; what was saved before is unchanged."""


def go_back(directory: str | Path, step: int) -> None:
    """Remove the checkpoints after ``step``: the next ``fit`` with this directory goes on from there.

    Their contents are lost; copy the directory first to keep both. The file of ``callbacks.JsonLines``, if there is
    one, loses the lines of the later epochs when ``fit`` goes on. Raises a ``CheckpointError``, and removes nothing,
    where there is no checkpoint of that step.
    """
    folder = Path(directory).absolute()
    orbax = imported("go_back", "orbax.checkpoint", "checkpoint")
    if not folder.is_dir():
        raise CheckpointError(f"go_back: {folder} is not a directory; expected the one that fit saved to")
    with orbax.CheckpointManager(folder) as manager:
        steps = sorted(manager.all_steps())
        if step not in steps:
            raise CheckpointError(f"go_back: there is no step {step} in {folder}; there are {steps}")
        for later in reversed(steps[steps.index(step) + 1 :]):  # interrupted, it can be called again
            manager.delete(later)


class LastAndBest:
    """The policy by which orbax keeps the last few checkpoints, and the best one."""

    def __init__(self, keep: int) -> None:
        self.keep, self.best = keep, cast("int | None", None)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        last = {checkpoint.step for checkpoint in checkpoints[-self.keep :]}
        return [checkpoint.step in last or checkpoint.step == self.best for checkpoint in checkpoints]


class Saver:
    """The checkpoints of one run, open for as long as it lasts."""

    def __init__(self, checkpoint: Checkpoint, finite: Callable[[Snapshot], bool]) -> None:
        self.checkpoint, self.finite = checkpoint, finite
        self.run: Mapping[str, Any] = {}
        self.directory = Path(checkpoint.directory).absolute()
        self.orbax = imported("fit: checkpoint", "orbax.checkpoint", "checkpoint")
        self.saving: int | None = None
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.directory):
                pass
        except OSError as error:
            raise CheckpointError(
                f"fit: checkpoint: {self.directory} cannot be written to ({error}); "
                f"choose a directory that you may write to, on a disk with room"
            ) from error
        self.lock = locked(self.directory) if jax.process_index() == 0 else None
        self.kept = LastAndBest(checkpoint.keep)
        options = self.orbax.CheckpointManagerOptions(preservation_policy=self.kept, cleanup_tmp_directories=True)
        self.manager = self.orbax.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            self.report(wait=True)
        finally:
            with suppress(Exception):  # of a save that failed, which was reported already
                self.manager.close()
            if self.lock is not None:
                self.lock.close()

    def first_line(self, record: Path, lines: int) -> int:
        """Return how many lines a record file had before this run began to write to it; ``lines`` if it begins now.

        A note in the directory of the checkpoints keeps the number, also for a run that is killed before its first one.
        """
        note, name = self.directory / NOTE, os.path.relpath(record, self.directory)
        first: dict[str, int] = json.loads(note.read_text()) if note.exists() else {}
        if name not in first:
            first[name] = lines
            part = note.with_suffix(".part")
            part.write_text(json.dumps(first))
            part.replace(note)
        return first[name]

    def after_chunk(self, before: int, snapshot: Snapshot, memories: Mapping[str, Any]) -> None:
        """Save if a multiple of ``updates`` of the epoch was reached since the first ``before`` of them."""
        updates = self.checkpoint.updates
        if updates is not None and snapshot.updates // updates > before // updates:
            self.save(snapshot, memories)

    def after_epoch(self, snapshot: Snapshot, memories: Mapping[str, Any], *, last: bool) -> None:
        """Save if it is time; otherwise see whether the last save is complete."""
        if last or snapshot.epoch % self.checkpoint.every == 0:
            self.save(snapshot, memories)
        else:
            self.report()

    def save(self, snapshot: Snapshot, memories: Mapping[str, Any]) -> None:
        """Begin to save, after waiting for an earlier save that is not complete."""
        self.report(wait=True)
        step = int(snapshot.state.step)
        if step in self.manager.all_steps() or not self.finite(snapshot):
            return
        args = self.orbax.args
        self.kept.best = self.lowest(snapshot.records, [*self.manager.all_steps(), step])
        with self.explained(step):
            self.manager.save(
                step,
                args=args.Composite(
                    arrays=args.StandardSave(arrays_of(snapshot, memories)),
                    table=args.JsonSave(table_of(snapshot, memories, self.run)),
                ),
            )
        self.saving = step

    def lowest(self, records: Sequence[Record], steps: list[int]) -> int | None:
        """Return which of the steps saved has the lowest validation cost."""
        costs = {record["step"]: record.get("validation_cost", math.nan) for record in records}
        finite = [step for step in steps if math.isfinite(costs.get(step, math.nan))]
        return min(finite, key=costs.__getitem__, default=None)

    def report(self, *, wait: bool = False) -> None:
        """Write the checksums of a save that is complete, and call ``on_saved``."""
        step = self.saving
        if step is None or not (wait or not self.manager.is_saving_in_progress()):
            return
        self.saving = None
        with self.explained(step):
            self.manager.wait_until_finished()
            self.manager.check_for_errors()
            if jax.process_index() == 0:
                write_sums(self.directory / str(step))
        if self.checkpoint.on_saved is not None:
            self.checkpoint.on_saved(step)

    @contextmanager
    def explained(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            saved = sorted(s for s in self.manager.all_steps() if s != step)
            kept = f"the last one saved is {saved[-1]}" if saved else "there is none before it"
            raise CheckpointError(
                f"fit: checkpoint {step} could not be written to {self.directory}; {kept}. "
                f"Make room or choose another directory, and run again. The cause: {error}"
            ) from error

    def resumed(
        self, snapshot: Snapshot, memories: Mapping[str, Any], run: Mapping[str, Any]
    ) -> tuple[Snapshot, Mapping[str, Any]]:
        """Return the snapshot and the memories in the last checkpoint; those given if there is none.

        From now on, ``run`` is saved with every checkpoint.
        """
        self.run = run
        steps = sorted(self.manager.all_steps())
        if not steps:
            return snapshot, memories
        try:
            return self.read(steps[-1], snapshot, memories)
        except CheckpointError as error:
            offer = self.offer(steps[:-1], snapshot, memories)
            raise CheckpointError(f"fit: {error}. {offer}") from error.__cause__

    def offer(self, steps: list[int], snapshot: Snapshot, memories: Mapping[str, Any]) -> str:
        """Name the latest of the earlier checkpoints that this run can go on from."""
        for step in reversed(steps):
            try:
                self.read(step, snapshot, memories)
            except CheckpointError:
                continue
            return (
                f"The one before it, {step}, is complete: fnnet.go_back(directory, {step}) removes the later ones, "
                f"then run again"
            )
        return "There is none before it to go on from: choose an empty directory, or the settings of the saved run"

    def read(self, step: int, snapshot: Snapshot, memories: Mapping[str, Any]) -> tuple[Snapshot, Mapping[str, Any]]:
        place, args = f"checkpoint {self.directory / str(step)}", self.orbax.args
        damaged = damaged_files(self.directory / str(step))
        if damaged:
            raise CheckpointError(f"{place} is damaged: {', '.join(damaged)} changed after it was saved")
        table = self.restore(step, place, "table", args.JsonRestore())
        fault = fault_of_table(table)
        if fault is not None:
            raise CheckpointError(f"{place} {fault}")
        self.check_same_run(place, snapshot, {**table["arrays"], **table["run"]})
        like = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), arrays_of(snapshot, memories)
        )
        arrays = self.restore(step, place, "arrays", args.StandardRestore(like))
        return restored(table, arrays, memories)

    def check_same_run(self, place: str, snapshot: Snapshot, theirs: Mapping[str, Any]) -> None:
        ours = {**kinds_of(snapshot.state), **json.loads(json.dumps(self.run))}
        lines = differences(ours, theirs)
        different = [line for line in lines if not line.startswith(tuple(self.checkpoint.allow))]
        if different:
            shown = different[:SHOWN] + ([f"and {len(different) - SHOWN} more"] if len(different) > SHOWN else [])
            names = {name for name in ALLOWED for line in lines if line.startswith(name)}
            hint = f" (if that is meant, pass Checkpoint(..., allow={tuple(sorted(names))}))"
            hint = hint if all(line.startswith(tuple(names)) for line in different) else ""
            raise CheckpointError(f"{place} is of another run: {'; '.join(shown)}{hint}")

    def restore(self, step: int, place: str, item: str, args: Any) -> Any:
        try:
            return self.manager.restore(step, args=self.orbax.args.Composite(**{item: args}))[item]
        except Exception as error:
            raise CheckpointError(f"{place} cannot be read, it is damaged or not fnnet's: {error}") from error


def locked(directory: Path) -> BinaryIO | None:
    """Return an open file that keeps other runs from saving to the directory until it is closed or its process ends.

    Windows, which has no such locks, gets None.
    """
    try:
        import fcntl
    except ImportError:
        return None
    file = (directory / LOCK).open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = json.loads(file.read() or b"{}")
        file.close()
        raise CheckpointError(
            f"fit: checkpoint: process {owner.get('process')} on {owner.get('host')} is saving to {directory}; wait "
            f"until it has ended, or choose another directory"
        ) from error
    file.truncate(0)
    file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}).encode())
    file.flush()
    return file
