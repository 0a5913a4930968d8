"""What a run of ``fit`` knows between two updates, beside the train state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet.training.source import Part
from fnnet.training.state import TrainState

Record = dict[str, float]


class Progress(NamedTuple):
    """Enough to go on from here as if nothing had been interrupted; what ``fit`` saves in a checkpoint."""

    state: TrainState
    history: dict[str, list[float]]
    epoch: int = 0  # whole epochs made, of this run and of those that it continues
    place: int = 0  # updates made of the next one: the place in its order of the examples
    means: Mapping[str, float] = {}  # of the metrics over that part of it
    examples: int = 0  # that these are means over
    seconds: float = 0.0  # that it took
    best: TrainState | None = None  # the state with the lowest validation cost, under early stopping
    best_cost: float = float("inf")
    waited: int = 0  # epochs since

    @classmethod
    def start(cls, state: TrainState, steps: int | None, *, keep_best: bool) -> Progress:
        """Before the first update of a run; ``steps`` per epoch tell how many a state from an earlier run has made."""
        epoch = int(state.step) // steps if steps else 0
        return cls(state, {}, epoch, best=copied(state) if keep_best else None)

    def after(self, part: Part, seconds: float) -> Progress:
        """The running means take the part's in: those of the cost by its examples, the others by its updates."""
        means = {}
        for name, value in part.metrics.items():
            if name == "step_costs":
                continue
            done, new = (self.examples, part.examples) if name == "cost" else (self.place, part.updates)
            mean = self.means.get(name, 0.0)
            means[name] = mean + (float(value) - mean) * (new / (done + new))
        return self._replace(
            state=part.state,
            place=self.place + part.updates,
            means=means,
            examples=self.examples + part.examples,
            seconds=self.seconds + seconds,
        )

    def record(self, compile_seconds: float) -> Record:
        """The numbers of the epoch that is now complete."""
        numbers = {
            "epoch": self.epoch + 1,
            "step": int(self.state.step),
            "cost": self.means["cost"],
            "seconds": self.seconds,
            "compile_seconds": compile_seconds,
        }
        return numbers | {name: mean for name, mean in self.means.items() if name != "cost"}

    def next_epoch(self, record: Record) -> Progress:
        """The epoch's numbers are history; the next begins."""
        for name, value in record.items():
            self.history.setdefault(name, []).append(value)
        return self._replace(epoch=self.epoch + 1, place=0, means={}, examples=0, seconds=0.0)

    def compared(self, validation_cost: float) -> Progress:
        """Remembers the state if its validation cost is the lowest so far."""
        if validation_cost < self.best_cost:
            return self._replace(best=copied(self.state), best_cost=validation_cost, waited=0)
        return self._replace(waited=self.waited + 1)


def copied(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)
