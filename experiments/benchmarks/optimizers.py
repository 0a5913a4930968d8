"""One update of all parameters: fnnet, optax, PyTorch (foreach and fused), and the floor that memory sets.

Each tree has the same number of parameters in equal leaves: ``many`` small ones or ``few`` large ones; gradients are
constant. JAX's updates are compiled with ``apply_updates`` and the parameters and the state are given up, so that they
change in place, as PyTorch's do. The contender ``floor`` copies as many bytes as an update must move, by NumPy in as
many threads as there are cores: gradients and parameters read, parameters written, each moment read and written. Its
``ratio`` below 1 says by how much an update could be quicker if it did nothing but move them; above 1, that it already
moves them as fast as a plain copy does.

``ratio`` is the median over the rounds of a contender's seconds divided by fnnet's in the same round: above 1, fnnet is
faster. ``MB accessed`` is what XLA counts for one update. Wants an idle machine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.benchmarks import report
from experiments.benchmarks.harness import compare
from experiments.benchmarks.optimizers_contenders import ARRAYS_MOVED, CONTENDERS, Task
from experiments.benchmarks.start import named, start

REFERENCE = "fnnet"
PACKAGES = ("jax", "jaxlib", "numpy", "optax", "torch")
TREES: dict[str, tuple[int, int]] = {  # parameters, leaves
    "1e4-many": (10_000, 400),
    "1e6-many": (1_000_000, 400),
    "1e6-few": (1_000_000, 10),
    "2.5e7-few": (25_000_000, 10),
}


@dataclass(frozen=True)
class Config:
    optimizers: tuple[str, ...] = tuple(ARRAYS_MOVED)
    """Optimizers to measure."""
    trees: tuple[str, ...] = tuple(TREES)
    """Trees to measure them on: parameters and whether their leaves are many or few."""
    rounds: int = 15
    """Rounds timed of each contender, after the first one."""
    numbers_per_round: int = 100_000_000
    """Parameters updated in a round, over as many updates as that takes, 200 at most."""
    only: tuple[str, ...] = ()
    """Contenders that take part; all, if none is named."""
    output: Path = Path("runs/benchmarks/optimizers.json")
    """File for the machine, the versions and all numbers; an earlier one is replaced."""


def run(config: Config) -> None:
    trees = named(TREES, config.trees, "tree")
    named(ARRAYS_MOVED, config.optimizers, "optimizer")
    contenders, machine, console = start(CONTENDERS, config.only, PACKAGES)

    comparisons = {}
    for tree, (parameters, leaves) in trees.items():
        for optimizer in config.optimizers:
            updates = max(1, min(200, config.numbers_per_round // parameters))
            task = Task(optimizer, parameters, leaves, updates)
            with console.status("") as status:
                comparison = compare(contenders, task, config.rounds, status.update)
            title = f"\n{optimizer}: {parameters:,} parameters in {leaves} leaves, {updates} updates"
            console.print(report.table(title, comparison, REFERENCE, "MB accessed"))
            comparisons[f"{optimizer} {tree}"] = {"task": asdict(task)} | report.as_json(comparison, REFERENCE)
    report.write_json(config.output, {"environment": machine, "config": asdict(config), "setups": comparisons})
    console.print(f"numbers in {config.output}", highlight=False)
