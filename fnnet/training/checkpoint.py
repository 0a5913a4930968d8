"""Checkpoints of a run on disk, by orbax: asynchronous, atomic, the last few and the best kept."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax

from fnnet import checks
from fnnet.training.extras import imported
from fnnet.training.progress import Progress
from fnnet.training.snapshot import arrays_of, differences, fault_of_table, restored, table_of
from fnnet.training.sums import damaged_files, write_sums

SHOWN = 8  # of the differences from another run
NOTE = "record.json"  # where in which files the run's record begins


@dataclass(frozen=True)
class Checkpoint:
    """Where and when ``fit`` saves a run, and how much is kept. ``fit`` goes on from the last one by itself.

    Saved are parameters, optimizer state, key, step, place in the order of the examples, history and the best state so
    far, after every ``every`` epochs and at the end, while training goes on; with ``updates``, also after so many of
    them within an epoch, which is then run in parts of that length; a stream has chunks of at most that length, and is
    saved after the one in which they are full. A checkpoint appears under its number of updates, whole or not at all.
    The last ``keep`` are kept, and the one with the lowest validation cost.

    ``on_saved(step)`` is called, between two epochs, when a checkpoint is complete and summed up: from then on no kill
    can lose it.

    ``fit`` raises a ``CheckpointError`` where the directory cannot be written, and where the checkpoint to go on from
    is damaged, not of this kind, or of another cost, key, batch size or tree of parameters: what differs is named, and
    so is the last checkpoint before it that would do, for ``go_back``. Nothing that was saved is removed then.
    """

    directory: str | Path
    every: int = 1
    updates: int | None = None
    keep: int = 3
    on_saved: Callable[[int], Any] | None = None

    def __post_init__(self) -> None:
        checks.positive_integer("Checkpoint", "every", self.every)
        checks.positive_integer("Checkpoint", "keep", self.keep)
        if self.updates is not None:
            checks.positive_integer("Checkpoint", "updates", self.updates)


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or gone on from; what was saved before is as it was."""


def go_back(directory: str | Path, step: int) -> None:
    """Remove the checkpoints after ``step``, once: the next ``fit`` with this directory goes on from there.

    What they hold is lost; copy the directory first to keep both ways. The record of the run, if it has one, loses the
    lines of the later epochs when ``fit`` goes on. Raises a ``CheckpointError``, and removes nothing, where there is no
    checkpoint of that step.
    """
    folder = Path(directory).absolute()
    orbax = imported("go_back", "orbax.checkpoint", "checkpoint")
    if not folder.is_dir():
        raise CheckpointError(f"go_back: {folder} is no directory; expected the one that fit saved to")
    with orbax.CheckpointManager(folder) as manager:
        steps = sorted(manager.all_steps())
        if step not in steps:
            raise CheckpointError(f"go_back: there is no step {step} in {folder}; there are {steps}")
        for later in reversed(steps[steps.index(step) + 1 :]):  # interrupted, it can be called again
            manager.delete(later)


class LastAndBest:
    """Which checkpoints orbax is to keep: the last few, and the one called the best."""

    def __init__(self, keep: int) -> None:
        self.keep, self.best = keep, cast("int | None", None)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        last = {checkpoint.step for checkpoint in checkpoints[-self.keep :]}
        return [checkpoint.step in last or checkpoint.step == self.best for checkpoint in checkpoints]


class Saver:
    """The checkpoints of one run, open for as long as it lasts."""

    def __init__(self, checkpoint: Checkpoint, run: Mapping[str, Any]) -> None:
        self.checkpoint, self.run = checkpoint, run
        self.directory = Path(checkpoint.directory).absolute()
        self.orbax = imported("fit: checkpoint", "orbax.checkpoint", "checkpoint")
        self.saving: int | None = None
        self.saved = Future[None]()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.directory):
                pass
        except OSError as error:
            raise CheckpointError(
                f"fit: checkpoint: {self.directory} cannot be written to ({error}); "
                f"choose a directory that you may write to, on a disk with room"
            ) from error
        self.kept = LastAndBest(checkpoint.keep)
        options = self.orbax.CheckpointManagerOptions(preservation_policy=self.kept, cleanup_tmp_directories=True)
        self.background = ThreadPoolExecutor(1)
        self.manager = self.orbax.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            self.report(wait=True)
        finally:
            self.background.shutdown()
            with suppress(Exception):  # of a save that failed, which is told already
                self.manager.close()

    def first_line(self, record: Path, there: int) -> int:
        """From which line on a record, which has so many, is this run's: those of others were there before.

        A note beside the checkpoints keeps that, also for a run that is killed before its first one.
        """
        note, name = self.directory / NOTE, os.path.relpath(record, self.directory)
        first: dict[str, int] = json.loads(note.read_text()) if note.exists() else {}
        if name not in first:
            first[name] = there
            part = note.with_suffix(".part")
            part.write_text(json.dumps(first))
            part.replace(note)
        return first[name]

    def is_due(self, before: Progress, progress: Progress) -> bool:
        """Whether a multiple of ``updates`` of the epoch was reached since ``before``."""
        updates = self.checkpoint.updates
        return updates is not None and progress.place // updates > before.place // updates

    def after_epoch(self, progress: Progress, *, last: bool) -> None:
        """Save if it is time; else look whether the last save is complete."""
        if last or progress.epoch % self.checkpoint.every == 0:
            self.save(progress)
        else:
            self.report()

    def save(self, progress: Progress) -> None:
        """Begin to save; an earlier save that is not complete is waited for."""
        self.report(wait=True)
        step = int(progress.state.step)
        if step in self.manager.all_steps():
            return
        args = self.orbax.args
        self.kept.best = self.lowest(progress.history, [*self.manager.all_steps(), step])
        with self.explained(step):
            self.manager.save(
                step,
                args=args.Composite(
                    arrays=args.StandardSave(arrays_of(progress)), table=args.JsonSave(table_of(progress, self.run))
                ),
            )
        self.saving, self.saved = step, self.background.submit(self.complete, step)

    def complete(self, step: int) -> None:
        """Wait for orbax, then sum up what it wrote."""
        self.manager.wait_until_finished()
        self.manager.check_for_errors()
        if jax.process_index() == 0:
            write_sums(self.directory / str(step))

    def lowest(self, history: Mapping[str, list[float]], steps: list[int]) -> int | None:
        """Of the steps saved, the one with the lowest validation cost."""
        costs = dict(zip(history.get("step", []), history.get("validation_cost", []), strict=False))
        return min(
            (step for step in steps if math.isfinite(costs.get(step, math.nan))), key=costs.__getitem__, default=None
        )

    def report(self, *, wait: bool = False) -> None:
        """Tell ``on_saved`` of a save that is complete."""
        step = self.saving
        if step is None or not (wait or self.saved.done()):
            return
        self.saving = None
        with self.explained(step):
            self.saved.result()
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

    def resumed(self, progress: Progress) -> Progress:
        """The progress in the last checkpoint; the one given, if there is none."""
        steps = sorted(self.manager.all_steps())
        if not steps:
            return progress
        try:
            return self.read(steps[-1], progress)
        except CheckpointError as error:
            raise CheckpointError(f"fit: {error}. {self.offer(steps[:-1], progress)}") from error.__cause__

    def offer(self, steps: list[int], progress: Progress) -> str:
        """The latest of the earlier checkpoints that this run can go on from."""
        for step in reversed(steps):
            try:
                self.read(step, progress)
            except CheckpointError:
                continue
            return (
                f"The one before it, {step}, is whole: fnnet.go_back(directory, {step}) removes what comes after it, "
                f"then run again"
            )
        return "There is none before it to go on from: choose an empty directory, or the settings of the saved run"

    def read(self, step: int, progress: Progress) -> Progress:
        place, args = f"checkpoint {self.directory / str(step)}", self.orbax.args
        bad = damaged_files(self.directory / str(step))
        if bad:
            raise CheckpointError(f"{place} is damaged: not what was saved are {', '.join(bad)}")
        table = self.restore(step, place, "table", args.JsonRestore())
        fault = fault_of_table(table)
        if fault is not None:
            raise CheckpointError(f"{place} {fault}")
        different = differences(table, progress, self.run)
        if different:
            shown = different[:SHOWN] + ([f"and {len(different) - SHOWN} more"] if len(different) > SHOWN else [])
            raise CheckpointError(f"{place} is of another run: {'; '.join(shown)}")
        like = {
            name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
            for name, array in arrays_of(progress).items()
        }
        arrays = self.restore(step, place, "arrays", args.StandardRestore(like))
        return restored(table, arrays, progress)

    def restore(self, step: int, place: str, item: str, args: Any) -> Any:
        try:
            return self.manager.restore(step, args=self.orbax.args.Composite(**{item: args}))[item]
        except Exception as error:
            raise CheckpointError(f"{place} cannot be read, it is damaged or not fnnet's: {error}") from error
