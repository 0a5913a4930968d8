"""Everything that a run needs to go on from here as if nothing had been interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from fnnet.paths import named_leaves
from fnnet.training.chunk import Numbers, totals
from fnnet.training.placement import is_key
from fnnet.training.state import TrainState
from fnnet.types import Array

FORMAT = "fnnet checkpoint, version 3"
Record = dict[str, float]


class Snapshot(NamedTuple):
    """The train state, and what ``fit`` knows besides it. Never changed: a step makes a new one."""

    state: TrainState
    records: tuple[Record, ...] = ()  # one for each epoch of this run
    epoch: int = 0  # whole epochs made, of this run and of those that it continues
    updates: int = 0  # made of the epoch that has begun
    sums: Mapping[str, tuple[float, float]] = {}  # over these: of each number the weighted sum, and the weights
    seconds: float = 0.0  # that these took

    def after(self, state: TrainState, numbers: Numbers, seconds: float) -> Snapshot:
        """Return the snapshot after a chunk."""
        sums = dict(self.sums)
        for name, (total, weight) in totals(jax.device_get(numbers)).items():
            before, weight_before = sums.get(name, (0.0, 0.0))
            sums[name] = before + float(total), weight_before + float(weight)
        updates = self.updates + len(numbers["cost"])
        return self._replace(state=state, updates=updates, sums=sums, seconds=self.seconds + seconds)

    def record(self) -> Record:
        """Return the numbers of the epoch that is complete."""
        means = {name: total / weight for name, (total, weight) in self.sums.items()}
        first = {"epoch": self.epoch + 1, "step": int(self.state.step), "cost": means.pop("cost")}
        return first | {"seconds": self.seconds} | means

    def after_epoch(self, record: Record) -> Snapshot:
        return Snapshot(self.state, (*self.records, record), self.epoch + 1)

    def history(self) -> dict[str, list[float]]:
        """Return by name one number for each epoch."""
        names = dict.fromkeys(name for record in self.records for name in record)
        return {name: [record[name] for record in self.records if name in record] for name in names}


# What a checkpoint contains: a tree of arrays, and a table of all the rest. ``memories`` are those of the callbacks.


def arrays_of(snapshot: Snapshot, memories: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of the state and of the memories."""
    return {"state": snapshot.state, "memories": {name: memory.arrays for name, memory in memories.items()}}


def table_of(snapshot: Snapshot, memories: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything else, as JSON: what the run is made of, how far it is, and the numbers of the memories."""
    return {
        "format": FORMAT,
        "run": dict(run),
        "arrays": kinds_of(snapshot.state),
        "progress": {name: value for name, value in snapshot._asdict().items() if name != "state"},
        "memories": {name: memory.numbers for name, memory in memories.items()},
    }


def fault_of_table(table: Any) -> str | None:
    """Return what is wrong with a table, or None for one that ``table_of`` made."""
    if not isinstance(table, dict) or "format" not in table:
        return "is not a checkpoint of fnnet's"
    return None if table["format"] == FORMAT else f"has the format {table['format']!r}; expected {FORMAT!r}"


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return what this run and that of a checkpoint do not have in common, a line for each difference."""
    return [
        f"{name} is {theirs.get(name, 'absent')} in the checkpoint, {ours.get(name, 'absent')} in this run"
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    ]


def restored(
    table: Mapping[str, Any], arrays: Mapping[str, Any], memories: Mapping[str, Any]
) -> tuple[Snapshot, dict[str, Any]]:
    """Return the snapshot and the memories that were saved."""
    progress = table["progress"]
    sums = {name: (total, weight) for name, (total, weight) in progress["sums"].items()}
    snapshot = Snapshot(arrays["state"], **progress | {"records": tuple(progress["records"]), "sums": sums})
    return snapshot, {
        name: memory._replace(arrays=arrays["memories"][name], numbers=table["memories"][name])
        for name, memory in memories.items()
    }


def kinds_of(state: TrainState) -> dict[str, str]:
    return {f"state.{name}": f"{leaf.dtype} {leaf.shape}" for name, leaf in named_leaves(state)}


def raw(leaf: Array) -> Array:
    """Return a random key as the integers that it consists of, other arrays as they are."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf
