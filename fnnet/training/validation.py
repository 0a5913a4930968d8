"""The numbers of a validation set after an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax

from fnnet.cost import Cost
from fnnet.training.evaluate import evaluate
from fnnet.training.progress import Record
from fnnet.training.source import compile_timed
from fnnet.training.state import TrainState
from fnnet.types import Batch, Loss, Params


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
        metrics: Mapping[str, Loss] | None,
        data: Batch,
        parameters: Callable[[TrainState], Params] | None = None,
    ) -> None:
        self.function: Any = jax.jit(evaluate(cost, metrics))
        self.data, self.parameters = data, parameters or (lambda state: state.params)

    def compile(self, state: TrainState) -> float:
        self.compiled, seconds = compile_timed(self.function, self.parameters(state), self.data)
        return seconds

    def __call__(self, state: TrainState) -> Record:
        numbers = self.compiled(self.parameters(state), self.data)
        return {f"validation_{name}": float(value) for name, value in numbers.items()}
