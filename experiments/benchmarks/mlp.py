"""Measure the seconds per epoch of a fully connected network for fnnet (by hand and by autodiff) and its peers.

The data have MNIST's shapes (60,000 examples, 784 inputs, 10 classes) with random inputs and learnable labels, so that
nothing is downloaded. The networks use ReLU, softmax cross-entropy and Adam. ``small`` is 784-30-10 in batches of 10,
where the overhead of a step counts; ``large`` is 784-512-512-10 in batches of 128, where the matrix products count.
``ratio`` is the median over the rounds of a contender's seconds divided by those of fnnet by hand in the same round;
above 1, fnnet is faster. The loss is that of the last epoch.

Run it on an idle machine: threads that spin while they wait for each other, as those of PyTorch and of scikit-learn's
OpenBLAS do, become many times slower if another program takes one of the cores. The report contains the load at the
start.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.benchmarks import report
from experiments.benchmarks.harness import compare
from experiments.benchmarks.mlp_contenders import CONTENDERS
from experiments.benchmarks.mlp_task import Task
from experiments.benchmarks.start import start

REFERENCE = "fnnet-manual"
PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax", "equinox", "torch", "scikit-learn")
SETUPS: dict[str, dict[str, Any]] = {
    "small": {"hidden": (30,), "batch_size": 10},
    "large": {"hidden": (512, 512), "batch_size": 128},
}


@dataclass(frozen=True)
class Config:
    setup: Literal["small", "large", "both"] = "both"
    """Which network to train."""
    rounds: int = 5
    """Number of epochs that are timed for each contender, after the first one."""
    examples: int = 60_000
    """Examples per epoch."""
    only: tuple[str, ...] = ()
    """Contenders that take part; by default all of them."""
    seed: int = 0
    """Seed of the data, of the initial weights and of the order of the examples."""
    output: Path = Path("runs/benchmarks/mlp.json")
    """File for the machine, the versions and all numbers; it is overwritten."""


def run(config: Config) -> None:
    contenders, machine, console = start(CONTENDERS, config.only, PACKAGES)

    comparisons = {}
    for name in SETUPS if config.setup == "both" else (config.setup,):
        task = Task(examples=config.examples, seed=config.seed, **SETUPS[name])
        with console.status("") as status:
            comparison = compare(contenders, task, config.rounds, status.update)
        title = f"\n{name}: {'-'.join(map(str, task.widths))}, batches of {task.batch_size}, {task.examples} examples"
        console.print(report.table(title, comparison, REFERENCE, "loss"))
        comparisons[name] = {"task": asdict(task)} | report.as_json(comparison, REFERENCE)
    report.write_json(config.output, {"environment": machine, "config": asdict(config), "setups": comparisons})
    console.print(f"The numbers are in {config.output}.", highlight=False)
