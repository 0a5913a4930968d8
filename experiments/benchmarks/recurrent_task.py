"""The layers over sequences that every contender of ``recurrent`` computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

Array = np.ndarray[Any, Any]

Kind = Literal["rnn", "gru", "lstm", "attention"]
KINDS: tuple[Kind, ...] = get_args(Kind)
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
HEAD = 32  # features of a head


@dataclass(frozen=True)
class Task:
    """One layer over ``x (N, T, D)``, all outputs ``(N, T, H)``: forward, and back to all parameters and to ``x``.

    Attention has as many features out as in, ``x (N, T, H)``.
    """

    kind: Kind
    steps: int
    examples: int
    inputs: int
    features: int

    @property
    def operations(self) -> int:
        """Return the multiplications and additions of the products of matrices, forward and twice that backward."""
        rows = self.steps * self.examples
        if self.kind == "attention":
            return 3 * 2 * rows * self.features * (4 * self.features + 2 * self.steps)
        return 3 * 2 * rows * (self.inputs + self.features) * GATES[self.kind] * self.features

    @property
    def repeats(self) -> int:
        """Return how often a round computes the task, so that the first time, with cold caches, matters little."""
        return min(max(3, round(4e10 / self.operations)), 50)

    def arrays(self) -> tuple[Array, Array]:
        """``x`` and ``dy (N, T, H)``, float32."""
        generator = np.random.default_rng(0)
        inputs = self.features if self.kind == "attention" else self.inputs
        x = generator.standard_normal((self.examples, self.steps, inputs), np.float32)
        dy = generator.standard_normal((self.examples, self.steps, self.features), np.float32)
        return x, dy


SHAPES = ((50, 50, 65, 128), (100, 64, 128, 256), (128, 32, 256, 512), (1000, 16, 32, 64))
