"""Compare the steps of every optimizer with those of PyTorch and optax, in float64.

All optimizers start from the same parameters and get the same random gradients. A number in the table is the largest
difference between two trajectories over all steps and tensors, divided by the tensor's largest parameter. If the
definitions differ, there are two numbers: one with the peer's own definition, and one with an option that makes both
equal, if there is such an option. Algorithms that a peer does not have are not listed. The exit status is 1 if a
difference that should be rounding is above ``tolerance``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.benchmarks import environment, report
from experiments.benchmarks.agreement_pairs import PAIRS, Pair
from fnnet.optimizers import apply_updates

PACKAGES = ("fnnet", "jax", "optax", "torch")
SHAPES = {"w": (6, 4), "kernel": (2, 3, 5), "b": (4,)}
Trajectory = dict[str, np.ndarray]  # the parameters by name; the first axis is the steps


@dataclass(frozen=True)
class Config:
    steps: int = 200
    """Number of updates."""
    seed: int = 0
    """Seed of the parameters and the gradients."""
    tolerance: float = 1e-12
    """Largest relative difference that counts as rounding."""
    output: Path = Path("runs/benchmarks/agreement.json")
    """File for the versions and all numbers; it is overwritten."""


@dataclass(frozen=True)
class Row:
    """The comparison of one algorithm with one peer."""

    algorithm: str
    peer: str
    as_defined: float | None
    """The difference to the peer's own definition, if that is another one."""
    made_equal: float | None
    """The difference for equal definitions; None if no option makes them equal."""
    difference: str


def run(config: Config) -> int:
    rows, skipped = compare(config.steps, config.seed)
    console = Console()
    console.print(table(rows, skipped))
    wrong = [row for row in rows if row.made_equal is not None and not row.made_equal <= config.tolerance]
    for row in wrong:
        console.print(
            f"{row.algorithm} differs from {row.peer}'s by {row.made_equal:.1e}; "
            f"expected at most {config.tolerance:.0e}"
        )
    versions = {package: environment.installed_version(package) for package in PACKAGES}
    content = {"versions": versions, "config": asdict(config), "rows": [asdict(row) for row in rows]}
    report.write_json(config.output, content | {"skipped": skipped})
    console.print(f"The numbers are in {config.output}.", highlight=False)
    return int(bool(wrong))


def compare(steps: int, seed: int) -> tuple[list[Row], dict[str, str]]:
    """Return a row for every pair whose peer is installed, and the reasons why the others are missing."""
    generator = np.random.default_rng(seed)
    params = {name: generator.standard_normal(shape) for name, shape in SHAPES.items()}
    gradients = {name: generator.standard_normal((steps, *shape)) for name, shape in SHAPES.items()}
    skipped: dict[str, str] = {}
    pairs = []
    for pair in PAIRS:
        try:
            __import__(pair.peer)
            pairs.append(pair)
        except ImportError as error:
            skipped[pair.peer] = str(error)
    with jax.enable_x64(True):
        return [row(pair, found) for pair, found in zip(pairs, paths(pairs, params, gradients), strict=True)], skipped


def row(pair: Pair, found: Mapping[str, Trajectory]) -> Row:
    as_defined = apart(found["ours"], found["theirs"])
    if not pair.difference:
        return Row(pair.algorithm, pair.peer, None, as_defined, "")
    equal = apart(found["ours_equal"], found["theirs_equal"]) if "theirs_equal" in found else None
    return Row(pair.algorithm, pair.peer, as_defined, equal, pair.difference)


def apart(one: Trajectory, other: Trajectory) -> float:
    """Return the largest difference relative to the tensor's largest entry, or infinity if one is not finite."""
    ratios = [float(np.abs(one[name] - other[name]).max() / np.abs(other[name]).max()) for name in one]
    return max(ratios) if np.isfinite(ratios).all() else float("inf")


def paths(pairs: list[Pair], params: Any, gradients: Any) -> list[dict[str, Trajectory]]:
    """Return the trajectories of each pair's sides; all trajectories in JAX are one program."""
    found: list[dict[str, Trajectory]] = [{} for _ in pairs]
    in_jax = {}
    for i, pair in enumerate(pairs):
        for side, make in pair.sides().items():
            if pair.peer == "torch" and side.startswith("theirs"):
                found[i][side] = torch_path(make, params, gradients)
            else:
                in_jax[make] = make()
    trajectories = jax_paths(in_jax, params, gradients)
    for i, pair in enumerate(pairs):
        found[i] |= {side: trajectories[make] for side, make in pair.sides().items() if make in trajectories}
    return found


def jax_paths(optimizers: Mapping[Any, Any], params: Any, gradients: Any) -> dict[Any, Trajectory]:
    def path(optimizer: Any, params: Any, gradients: Any) -> Any:
        def step(carry: Any, g: Any) -> Any:
            params, state = carry
            updates, state = optimizer.update(g, state, params)
            params = apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(step, (params, optimizer.init(params)), gradients)[1]

    @jax.jit
    def together(params: Any, gradients: Any) -> list[Any]:
        return [path(optimizer, params, gradients) for optimizer in optimizers.values()]

    results = together(jax.tree.map(jnp.asarray, params), jax.tree.map(jnp.asarray, gradients))
    return {key: jax.tree.map(np.asarray, result) for key, result in zip(optimizers, results, strict=True)}


def torch_path(make: Callable[..., Any], params: Mapping[str, Any], gradients: Mapping[str, Any]) -> Trajectory:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # NAdam keeps its product of momenta in the default dtype
    try:
        tensors = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in params.items()}
        optimizer = make(list(tensors.values()))
        path: dict[str, list[Any]] = {name: [] for name in params}
        for step in range(len(next(iter(gradients.values())))):
            for name, tensor in tensors.items():
                tensor.grad = torch.tensor(gradients[name][step])
            optimizer.step()
            for name, tensor in tensors.items():
                path[name].append(tensor.detach().numpy().copy())
    finally:
        torch.set_default_dtype(before)
    return {name: np.stack(values) for name, values in path.items()}


def table(rows: list[Row], skipped: Mapping[str, str]) -> Table:
    caption = "\n".join(f"{peer} skipped: {reason}" for peer, reason in skipped.items())
    shown = Table(title="largest relative difference", caption=caption, box=box.SIMPLE_HEAD, pad_edge=False)
    shown.title_justify = shown.caption_justify = "left"
    for column in ("algorithm", "peer", "as defined there", "made equal", "what differs: what makes them equal"):
        shown.add_column(column, justify="right" if column in ("as defined there", "made equal") else "left")
    for row in rows:
        numbers = ("" if value is None else f"{value:.0e}" for value in (row.as_defined, row.made_equal))
        shown.add_row(row.algorithm, row.peer, *numbers, row.difference)
    return shown
