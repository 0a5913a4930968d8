"""The convolutions that every contender of ``conv`` computes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]

Part = Literal["forward", "both"]


@dataclass(frozen=True)
class Task:
    """One layer without bias: ``x (N, *image, channels)``, square kernels, and what of it is computed."""

    examples: int
    image: tuple[int, ...]
    channels: int
    filters: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    part: Part = "both"

    @property
    def output(self) -> tuple[int, ...]:
        span = (self.kernel - 1) * self.dilation + 1
        return tuple((length + 2 * self.padding - span) // self.stride + 1 for length in self.image)

    @property
    def operations(self) -> int:
        """Return the multiplications and additions, without regard to groups; the backward pass has twice as many."""
        taps = self.kernel ** len(self.image)
        each = 2 * self.examples * math.prod(self.output) * taps * self.channels * self.filters
        return each * (3 if self.part == "both" else 1)

    @property
    def repeats(self) -> int:
        """Return how often a round computes the task, so that the first time, with cold caches, matters little."""
        return min(max(3, round(3e10 / self.operations)), 500)

    def arrays(self) -> tuple[Array, Array, Array]:
        """``x (N, *L, C)``, ``w (*A, C / groups, O)`` and ``dy (N, *P, O)``, float32."""
        generator = np.random.default_rng(0)
        taps = (self.kernel,) * len(self.image)
        shapes = (
            (self.examples, *self.image, self.channels),
            (*taps, self.channels // self.groups, self.filters),
            (self.examples, *self.output, self.filters),
        )
        x, w, dy = (generator.standard_normal(shape, np.float32) for shape in shapes)
        return x, w, dy

    def __str__(self) -> str:
        size, squares = "×".join(map(str, self.image)), "²" if len(self.image) == 2 else ""
        options = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}
        defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        extra = "".join(f", {name} {value}" for name, value in options.items() if value != defaults[name])
        return f"{self.examples}, {size}, {self.channels} → {self.filters}, {self.kernel}{squares}{extra}"


TASKS = (
    Task(128, (12, 12), 20, 40, 5),
    Task(128, (32, 32), 32, 64, 3),
    Task(64, (16, 16), 64, 128, 3),
    Task(64, (28, 28), 1, 20, 5),
    Task(128, (32, 32), 3, 32, 3, padding=1),
    Task(8, (112, 112), 3, 32, 7, stride=2, padding=3),
    Task(64, (16, 16), 64, 128, 1),
    Task(64, (16, 16), 64, 128, 1, stride=2),
    Task(64, (32, 32), 32, 64, 3, stride=2, padding=1),
    Task(32, (32, 32), 16, 32, 3, dilation=2),
    Task(32, (32, 32), 32, 32, 3, padding=1, groups=32),
    Task(32, (16, 16), 64, 64, 3, padding=1, groups=4),
    Task(32, (8, 8), 256, 256, 3, padding=1),
    Task(64, (256,), 32, 64, 5),
    Task(1, (32, 32), 32, 64, 3, padding=1),
)
