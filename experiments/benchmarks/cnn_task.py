"""The task that every contender of ``cnn`` trains on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.benchmarks import mlp_task

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Task:
    """Images of MNIST's shape: conv 20 5×5, pool, conv 40 5×5, pool, dense 100, softmax; ReLU; Adam."""

    batch_size: int
    examples: int
    seed: int
    learning_rate: float = 1e-3

    def data(self) -> tuple[Array, Array]:
        """``x (N, 28, 28, 1)`` float32 and ``y (N,)`` int32: those of ``mlp``, as images."""
        x, y = mlp_task.Task((), self.batch_size, self.examples, self.seed).data()
        return x.reshape(-1, 28, 28, 1), y
