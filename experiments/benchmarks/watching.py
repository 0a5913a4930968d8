"""Measure what ``fnnet.diagnosis.Watch`` costs: epochs of ``fit`` with and without it, in turns.

``dense`` is the network 784-128-10 in batches of 128, ``conv`` is conv 20, pool, conv 40, pool, dense 100, in batches
of 64, both with Adam on data with MNIST's shapes. ``ratio`` is the median over the rounds of the seconds of a watched
epoch divided by those of the one beside it that nobody watched; the loss should be the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.benchmarks import report
from experiments.benchmarks.harness import compare
from experiments.benchmarks.start import start
from experiments.benchmarks.watching_contenders import CONTENDERS, Task

REFERENCE = "alone"
PACKAGES = ("jax", "jaxlib", "numpy")
BATCH_SIZES = {"dense": 128, "conv": 64}


@dataclass(frozen=True)
class Config:
    networks: tuple[str, ...] = ("dense", "conv")
    """Networks that are trained: dense, conv."""
    rounds: int = 5
    """Number of epochs that are timed for each contender, after the first one."""
    examples: int = 60_000
    """Examples per epoch."""
    every: int = 50
    """Steps from one probe of the watch to the next."""
    seed: int = 0
    """Seed of the data, of the initial weights and of the order of the examples."""
    output: Path = Path("runs/benchmarks/watching.json")
    """File for the machine, the versions and all numbers; it is overwritten."""


def run(config: Config) -> None:
    contenders, machine, console = start(CONTENDERS, (), PACKAGES)
    comparisons: dict[str, Any] = {}
    for network in config.networks:
        task = Task(network, BATCH_SIZES[network], config.examples, config.seed, config.every)
        with console.status("") as status:
            comparison = compare(contenders, task, config.rounds, status.update)
        console.print(report.table(f"\n{network}", comparison, REFERENCE, "loss"))
        comparisons[network] = {"task": asdict(task)} | report.as_json(comparison, REFERENCE)
    report.write_json(config.output, {"environment": machine, "config": asdict(config), "networks": comparisons})
    console.print(f"The numbers are in {config.output}.", highlight=False)
