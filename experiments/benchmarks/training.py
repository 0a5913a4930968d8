"""Measure the examples per second of ``fit`` from memory and from a stream, of flax with optax, and of PyTorch.

The network 784-128-10 learns data with MNIST's shapes, with ReLU, softmax cross-entropy and Adam, in batches of 32, 256
and 2048. PyTorch uses its ``DataLoader``. ``ratio`` is the median over the rounds of a contender's seconds divided by
those of fnnet from memory in the same round; above 1, fnnet from memory is faster, and the ratio of ``fnnet-stream`` is
the cost of streaming. At the end, the time from the start of a process to the end of the first update is measured, with
a cold and with a warm compilation cache.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from experiments.benchmarks import report
from experiments.benchmarks.harness import Comparison, compare
from experiments.benchmarks.mlp_task import Task
from experiments.benchmarks.start import start
from experiments.benchmarks.training_contenders import CONTENDERS
from experiments.benchmarks.training_start import Start, measure_starts

REFERENCE = "fnnet-memory"
PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax", "torch")


@dataclass(frozen=True)
class Config:
    batch_sizes: tuple[int, ...] = (32, 256, 2048)
    """Examples per update."""
    hidden: tuple[int, ...] = (128,)
    """Number of neurons of each hidden layer."""
    rounds: int = 5
    """Number of epochs that are timed for each contender, after the first one."""
    examples: int = 60_000
    """Examples per epoch."""
    only: tuple[str, ...] = ()
    """Contenders that take part; by default all of them."""
    starts: bool = True
    """Whether start-up times are measured, too."""
    seed: int = 0
    """Seed of the data, of the initial weights and of the order of the examples."""
    output: Path = Path("runs/benchmarks/training.json")
    """File for the machine, the versions and all numbers; it is overwritten."""


def run(config: Config) -> None:
    contenders, machine, console = start(CONTENDERS, config.only, PACKAGES)
    task = Task(config.hidden, config.batch_sizes[0], config.examples, config.seed)
    comparisons: dict[str, Any] = {}
    for batch_size in config.batch_sizes:
        task = replace(task, batch_size=batch_size)
        with console.status("") as status:
            comparison = compare(contenders, task, config.rounds, status.update)
        console.print(report.table(f"\nbatches of {batch_size}", comparison, REFERENCE, "loss"))
        console.print(throughputs(comparison, task), highlight=False)
        comparisons[str(batch_size)] = {"task": asdict(task)} | report.as_json(comparison, REFERENCE)
    starts: dict[str, Start] = {}
    if config.starts:
        with console.status("") as status:
            starts = measure_starts(replace(task, batch_size=256), status.update)
        console.print(start_table(starts))
    report.write_json(
        config.output,
        {
            "environment": machine,
            "config": asdict(config),
            "batch_sizes": comparisons,
            "starts": {name: times._asdict() for name, times in starts.items()},
        },
    )
    console.print(f"The numbers are in {config.output}.", highlight=False)


def throughputs(comparison: Comparison, task: Task) -> str:
    rates = {name: task.examples / median(result.seconds) for name, result in comparison.results.items()}
    return "examples per second: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())


def start_table(starts: dict[str, Start]) -> Table:
    rows = Table(
        "", "import", "first update", "both", title="\nseconds from the start of a process", box=box.SIMPLE_HEAD
    )
    rows.title_justify = "left"
    for name, times in starts.items():
        rows.add_row(name, *(f"{seconds:.2f}" for seconds in (*times, sum(times))))
    return rows
