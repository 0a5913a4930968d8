"""The task that every contender of ``pool`` works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Task:
    """Max pooling of ``shape (N, H, W, C)`` by square windows without padding."""

    shape: tuple[int, int, int, int]
    window: int
    stride: int
    repeats: int
    seed: int

    def data(self) -> tuple[Array, Array]:
        """Return the images ``x`` and the gradient ``dy`` of the output, both float32 and standard normal."""
        generator = np.random.default_rng(self.seed)
        n, h, w, c = self.shape
        outputs = (n, *((length - self.window) // self.stride + 1 for length in (h, w)), c)
        return generator.standard_normal(self.shape, np.float32), generator.standard_normal(outputs, np.float32)
