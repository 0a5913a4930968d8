"""Callbacks of ``fit``: where training stops early, what is written down and shown.

``fit(..., callbacks=[EarlyStopping(patience=3), JsonLines("run.jsonl")])``. A callback is a function
``(state, record) -> stop``, or a ``Callback``. Training stops when one of them returns True.
"""

from __future__ import annotations

import math
import sys
import warnings
from typing import TextIO

from fnnet import checks
from fnnet.training.callback import Callback, Memory, Run
from fnnet.training.non_finite import NonFinite, StopAtNonFinite
from fnnet.training.record import JsonLines, TensorBoard, read_record
from fnnet.training.snapshot import Record
from fnnet.training.state import TrainState

__all__ = [
    "Callback",
    "EarlyStopping",
    "JsonLines",
    "Memory",
    "NonFinite",
    "Progress",
    "Run",
    "StopAtNonFinite",
    "TensorBoard",
    "read_record",
]


class EarlyStopping(Callback):
    """Stop after ``patience`` epochs without a lower validation cost; ``fit`` then returns the state of the best epoch.

    Where no validation cost is finite, that is the state before the first epoch, with a RuntimeWarning.
    """

    def __init__(self, patience: int) -> None:
        checks.positive_integer("callbacks.EarlyStopping", "patience", patience)
        self.patience = patience

    def start(self, run: Run) -> None:
        checks.require(
            run.validates, "fit: callbacks.EarlyStopping needs validation data; pass validation=(x, y) to fit"
        )
        self.memory = Memory(run.before.state, {"best_cost": float("inf"), "waited": 0})

    def __call__(self, state: TrainState, record: Record) -> bool | None:
        assert self.memory is not None
        cost = record["validation_cost"]
        if cost < self.memory.numbers["best_cost"]:
            self.memory = Memory(state, {"best_cost": cost, "waited": 0})
        else:
            numbers = self.memory.numbers
            self.memory = self.memory._replace(numbers=numbers | {"waited": numbers["waited"] + 1})
        return self.done

    @property
    def done(self) -> bool:
        return self.memory is not None and self.memory.numbers["waited"] >= self.patience

    def result(self, state: TrainState) -> TrainState:
        assert self.memory is not None
        if not math.isfinite(self.memory.numbers["best_cost"]):
            warnings.warn(
                "fit: callbacks.EarlyStopping: no validation cost was finite, so the state before the first epoch is "
                "returned; lower the learning rate, or check the validation data",
                RuntimeWarning,
                stacklevel=3,  # the caller of fit
            )
        return self.memory.arrays


class Progress(Callback):
    """Print the numbers of every epoch, one line each, to ``file`` (standard error unless given)."""

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file

    def __call__(self, state: TrainState, record: Record) -> None:
        shown = (f"{name} {value:.4g}" for name, value in record.items() if name not in ("epoch", "step"))
        print(f"epoch {record['epoch']}: {', '.join(shown)}", file=self.file or sys.stderr, flush=True)
