"""Measure one update of all parameters: fnnet, optax, PyTorch (foreach and fused), and a plain copy of the memory.

The parameters are in leaves of equal size, ``many`` small ones or ``few`` large ones, and the gradients are constant.
The updates of JAX are compiled together with ``apply_updates``; parameters and state are donated, so that they change
in place, as those of PyTorch do. The contender ``floor`` copies as many bytes as an update must move, with NumPy and a
thread for each core: gradients and parameters are read, parameters are written, and each moment is read and written.
Its ``ratio`` is the fraction of the time that an update would need if it only moved the memory; at 1 or above, an
update is as fast as a plain copy.

``ratio`` is the median over the rounds of a contender's seconds divided by those of fnnet in the same round; above 1,
fnnet is faster. ``MB accessed`` is XLA's count for one update. Run it on an idle machine.
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
    """Trees to measure them on, named by the number of parameters and by many or few leaves."""
    rounds: int = 15
    """Number of rounds that are timed for each contender, after the first one."""
    numbers_per_round: int = 100_000_000
    """Number of parameters updated in a round; it determines the number of updates, which is at most 200."""
    only: tuple[str, ...] = ()
    """Contenders that take part; by default all of them."""
    output: Path = Path("runs/benchmarks/optimizers.json")
    """File for the machine, the versions and all numbers; it is overwritten."""


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
    console.print(f"The numbers are in {config.output}.", highlight=False)
