"""The numbers of a validation set after an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax

from fnnet import checks
from fnnet.cost import Cost
from fnnet.training.evaluate import evaluate
from fnnet.training.metrics import Metric
from fnnet.training.progress import Record
from fnnet.training.source import compile_timed
from fnnet.training.state import TrainState
from fnnet.types import Array, Batch, Loss, Params


class Validation(Protocol):
    """What ``fit`` asks after every epoch."""

    def compile(self, state: TrainState) -> float:
        """Compile the program for states like this one; the seconds that it took."""
        ...

    def __call__(self, state: TrainState) -> Record: ...


class ArraysValidation:
    """Examples on the device: one program, ``evaluate``. ``parameters(state)`` are those to evaluate."""

    def __init__(
        self,
        cost: Cost,
        metrics: Mapping[str, Loss | Metric] | None,
        data: Batch,
        parameters: Callable[[TrainState], Params] | None = None,
    ) -> None:
        self.function: Any = jax.jit(evaluate(cost, metrics))
        self.data, self.parameters = data, parameters or (lambda state: state.params)

    def compile(self, state: TrainState) -> float:
        self.compiled, seconds = compile_timed(self.function, self.parameters(state), self.data)
        return seconds

    def __call__(self, state: TrainState) -> Record:
        return record_of(self.compiled(self.parameters(state), self.data))


def record_of(numbers: Mapping[str, Array]) -> Record:
    for name, number in numbers.items():
        checks.require(
            number.ndim == 0,
            f"fit: the metric {name!r} gives an array of shape {number.shape}; a history has single numbers: leave it "
            f"out here and use fnnet.evaluate after training",
        )
    return {f"validation_{name}": float(number) for name, number in numbers.items()}
