"""The progress of a run as arrays by name and a table of what they must be, and back: what a checkpoint contains."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.cost import Cost
from fnnet.paths import named_leaves
from fnnet.training.progress import Progress
from fnnet.training.state import TrainState
from fnnet.types import Array

FORMAT = "fnnet checkpoint, version 1"
COUNTED = ("history", "epoch", "place", "means", "examples", "seconds", "best_cost", "waited")


def run_of(cost: Cost, source: Mapping[str, Any], state: TrainState) -> dict[str, Any]:
    """What a checkpoint must have in common with a run that goes on from it, beside the shapes of its arrays."""
    key = np.asarray(raw(state.key)).tolist()
    return {
        "cost": re.sub(r" at 0x[0-9a-f]+", "", repr(cost)),
        "key": key,
        **{f"data: {k}": v for k, v in source.items()},
    }


def arrays_of(progress: Progress) -> dict[str, Array]:
    """The arrays of the state and of the best one by name, keys as the integers that they are."""
    return {name: raw(leaf) for name, leaf in leaves_of(progress).items()}


def table_of(progress: Progress, run: Mapping[str, Any]) -> dict[str, Any]:
    """All the rest, as JSON, with the shape and the dtype of every array."""
    counted = {name: getattr(progress, name) for name in COUNTED}
    counted["history"] = {name: list(numbers) for name, numbers in progress.history.items()}  # it grows while we write
    return {"format": FORMAT, "run": dict(run), "arrays": kinds_of(progress), "progress": counted}


def fault_of_table(table: Any) -> str | None:
    """None for a table as ``table_of`` makes it; else what is wrong with it."""
    if not isinstance(table, dict) or "format" not in table:
        return "is not a checkpoint of fnnet's"
    return None if table["format"] == FORMAT else f"has the format {table['format']!r}; expected {FORMAT!r}"


def differences(table: Mapping[str, Any], progress: Progress, run: Mapping[str, Any]) -> list[str]:
    """What a checkpoint and a run do not have in common, a line for each."""
    ours = {**json.loads(json.dumps(run)), **kinds_of(progress._replace(best=None))}
    theirs = {name: kind for name, kind in table["arrays"].items() if not name.startswith("best.")}
    theirs |= table["run"]
    return [
        f"{name} is {described(theirs.get(name))} in the checkpoint, {described(ours.get(name))} in this run"
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    ]


def described(value: Any) -> str:
    match value:
        case None:
            return "absent"
        case [list(shape), str(dtype)]:
            return f"{dtype} {tuple(shape)}"
    return str(value)


def restored(table: Mapping[str, Any], arrays: Mapping[str, Array], like: Progress) -> Progress:
    """The progress that was saved, in the structure of ``like``."""

    def tree(name: str, structure: Any) -> Any:
        leaves = [
            jax.random.wrap_key_data(arrays[f"{name}.{path}"], impl=jax.random.key_impl(leaf))
            if is_key(leaf)
            # A buffer of its own, for donation.
            else jnp.copy(arrays[f"{name}.{path}"])
            for path, leaf in named_leaves(structure)
        ]
        return jax.tree.unflatten(jax.tree.structure(structure), leaves)

    best = None if like.best is None else tree("best", like.best)
    return Progress(tree("state", like.state), best=best, **table["progress"])


def leaves_of(progress: Progress) -> dict[str, Array]:
    trees = {"state": progress.state} | ({} if progress.best is None else {"best": progress.best})
    pairs = named_leaves(trees)
    named = dict(pairs)
    if len(named) < len(pairs):
        raise ValueError("fit: two arrays of the state have the same name, so that no checkpoint can tell them apart")
    return named


def kinds_of(progress: Progress) -> dict[str, list[Any]]:
    return {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in leaves_of(progress).items()}


def is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def raw(leaf: Array) -> Array:
    return jax.random.key_data(leaf) if is_key(leaf) else leaf
