"""The task of the benchmark ``sweep``: small networks that differ in learning rate and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Task:
    """The networks, their data and their training."""

    networks: int = 64
    steps: int = 1000
    batch_size: int = 32
    hidden: tuple[int, ...] = (16, 16)
    examples: int = 640
    cores: int = 1
    seed: int = 0

    @property
    def epochs(self) -> int:
        return self.steps // (self.examples // self.batch_size)

    def data(self) -> tuple[Any, Any]:
        """Return points ``(examples, 2)`` of the plane, and for each the spiral, 0 or 1, on which it lies."""
        generator = np.random.default_rng(self.seed)
        labels = np.arange(self.examples) % 2
        turn = generator.uniform(0.5, 2, self.examples)
        angle = 2 * np.pi * turn + np.pi * labels
        points = turn[:, None] / 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return (points + 0.02 * generator.standard_normal(points.shape)).astype(np.float32), labels.astype(np.int32)

    def rates(self) -> Any:
        """Return the learning rate of each network."""
        return np.geomspace(1e-3, 3e-2, self.networks).astype(np.float32)
