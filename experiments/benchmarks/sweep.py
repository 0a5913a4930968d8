"""Measure the seconds to train 64 networks 2-16-16-2 for 1,000 updates of Adam each, together or one by one.

The networks learn two spirals of 640 points with softmax cross-entropy in batches of 32; each has its own learning rate
and seed. ``sweep`` is one program for all networks; on a CPU they are distributed over devices, one for each core. The
peers are the compiled program of one network, run 64 times, and a step of flax and optax that Python calls for every
batch. ``ratio`` is the median over the rounds of a contender's seconds divided by those of the sweep in the same round.
The loss is the median of the networks' last losses.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.benchmarks import report
from experiments.benchmarks.harness import compare
from experiments.benchmarks.start import start
from experiments.benchmarks.sweep_contenders import CONTENDERS
from experiments.benchmarks.sweep_task import Task

REFERENCE = "sweep, a device per core"
PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax")


@dataclass(frozen=True)
class Config:
    rounds: int = 5
    """Number of rounds that are timed for each contender, after the first one."""
    networks: int = 64
    """Number of networks."""
    steps: int = 1000
    """Number of updates of each network, rounded down to whole epochs of 20 updates."""
    only: tuple[str, ...] = ()
    """Contenders that take part; by default all of them."""
    seed: int = 0
    """Seed of the data and of the networks."""
    output: Path = Path("runs/benchmarks/sweep.json")
    """File for the machine, the versions and all numbers; it is overwritten."""


def run(config: Config) -> None:
    contenders, machine, console = start(CONTENDERS, config.only, PACKAGES)
    task = Task(networks=config.networks, steps=config.steps, cores=os.cpu_count() or 1, seed=config.seed)
    with console.status("") as status:
        comparison = compare(contenders, task, config.rounds, status.update)
    console.print(report.table(f"\n{task.networks} networks, {task.steps} updates each", comparison, REFERENCE, "loss"))
    numbers = {"environment": machine, "config": asdict(config), "task": asdict(task)}
    report.write_json(config.output, numbers | report.as_json(comparison, REFERENCE))
    console.print(f"The numbers are in {config.output}.", highlight=False)
