"""The recurrences that every contender of ``recurrent`` computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]

Kind = Literal["rnn", "gru", "lstm"]
GATES: dict[str, int] = {"rnn": 1, "gru": 3, "lstm": 4}


@dataclass(frozen=True)
class Task:
    """One layer over ``x (N, T, D)``, all outputs ``(N, T, H)``: forward, and back to all parameters and to ``x``."""

    cell: Kind
    steps: int
    examples: int
    inputs: int
    features: int

    @property
    def operations(self) -> int:
        """Multiplications and additions of the products of matrices, forward and twice that back."""
        rows, gates = self.steps * self.examples, GATES[self.cell]
        return 3 * 2 * rows * (self.inputs + self.features) * gates * self.features

    @property
    def repeats(self) -> int:
        """Times that it is computed in one round, so that a round is long enough to be timed."""
        return min(max(1, round(1e10 / self.operations)), 50)

    def arrays(self) -> tuple[Array, Array]:
        """``x (N, T, D)`` and ``dy (N, T, H)``, float32."""
        generator = np.random.default_rng(0)
        x = generator.standard_normal((self.examples, self.steps, self.inputs), np.float32)
        dy = generator.standard_normal((self.examples, self.steps, self.features), np.float32)
        return x, dy


SHAPES = ((50, 50, 65, 128), (100, 64, 128, 256), (128, 32, 256, 512), (1000, 16, 32, 64))
