"""Epoch after epoch: run, validate, remember, write down, save, stop."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from fnnet.training.checkpoint import Saver
from fnnet.training.non_finite import NonFinite, all_finite
from fnnet.training.progress import Progress, Record
from fnnet.training.source import Source
from fnnet.training.state import TrainState
from fnnet.training.validation import Validation


class Writer(Protocol):
    """Where the numbers of every epoch are written down."""

    def write(self, record: Record) -> None: ...


@dataclass(frozen=True)
class Loop:
    """The parts of a run that do not change while it lasts; what ``fit``'s arguments stand for."""

    source: Source
    validation: Validation | None = None
    patience: int | None = None
    callback: Callable[[TrainState, Record], Any] | None = None
    writers: Sequence[Writer] = ()
    saver: Saver | None = None
    search: Callable[[Progress], NonFinite | None] | None = None  # for what is not finite, from a progress on

    def run(self, progress: Progress, epochs: int) -> tuple[Progress, NonFinite | None]:
        """Until there are that many epochs in all, or something stops it."""
        stop, found = self.gave_up(progress), None
        began_finite = is_finite(progress.state)
        compile_seconds = self.compile(progress.state) if progress.epoch < epochs and not stop else 0.0
        while progress.epoch < epochs and not stop:
            before, progress = self.run_epoch(progress)
            record = progress.record(compile_seconds) | self.source.numbers
            if self.validation is not None:
                record |= self.validation(progress.state)
            compile_seconds = 0.0
            progress = progress.next_epoch(record)
            if self.patience is not None:
                progress = progress.compared(record["validation_cost"])
            for writer in self.writers:
                writer.write(record)
            stop = self.told_to_stop(progress.state, record) or self.gave_up(progress)
            last = stop or progress.epoch == epochs
            fault = None
            if not math.isfinite(record["cost"]):
                fault = f"the cost of epoch {record['epoch']} is {record['cost']}"
            elif (last or self.saver is not None) and began_finite and not is_finite(progress.state):
                # No cost has seen what the last update made.
                fault = f"the parameters after epoch {record['epoch']} are NaN or infinite in places"
            if fault is not None:
                stop, found = True, self.stopped(before, fault)
            elif self.saver is not None:
                self.saver.after_epoch(progress, last=last)
        return progress, found

    def compile(self, state: TrainState) -> float:
        return self.source.compile(state) + (0.0 if self.validation is None else self.validation.compile(state))

    def run_epoch(self, progress: Progress) -> tuple[Progress, Progress]:
        """The rest of an epoch, up to a cost that is not finite: the progress before its last part, and after it."""
        before, start = progress, time.perf_counter()
        with closing(self.source.parts(progress.state, progress.place)) as parts:  # a thread may be behind them
            for part in parts:
                jax.block_until_ready(part)
                now = time.perf_counter()
                before, progress = progress, progress.after(part, now - start)
                start = now
                if not math.isfinite(progress.means["cost"]):
                    break
                # An epoch's end is saved with its record; what is not finite, not at all: the next cost will show it.
                saver = None if part.last else self.saver
                if saver is not None and saver.is_due(before, progress) and is_finite(progress.state):
                    saver.save(progress)
                    start = time.perf_counter()
        return before, progress

    def gave_up(self, progress: Progress) -> bool:
        return self.patience is not None and progress.waited >= self.patience

    def told_to_stop(self, state: TrainState, record: Record) -> bool:
        """Only by True itself: what else a callback returns is its own affair."""
        answer = None if self.callback is None else self.callback(state, dict(record))
        return isinstance(answer, (bool, np.bool_)) and bool(answer)

    def stopped(self, before: Progress, fault: str) -> NonFinite | None:
        """At a fault: what was not finite first, said in a warning and saved where the checkpoints are."""
        found = None if self.search is None else self.search(before)
        if found is not None and self.saver is not None:
            found.save(self.saver.directory / f"non_finite_{found.step}.safetensors")
        warnings.warn(
            f"fit: {fault}, training stops; lower the learning rate, "
            f"or check the initial parameters with fnnet.evaluate{'' if found is None else f'; {found}'}",
            RuntimeWarning,
            stacklevel=4,  # the caller of fit
        )
        return found


def is_finite(state: TrainState) -> bool:
    """Whether all parameters are; one small program."""
    return bool(jax.jit(all_finite)(state.params))
