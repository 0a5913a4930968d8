"""Measure a layer over time, forward and backward: fnnet with its hand-written rule and with autodiff, and others.

The arrays are float32. A shape ``T, N, D, H`` has ``T`` steps, ``N`` examples, ``D`` inputs and ``H`` features. Every
contender computes the outputs of all steps and the gradients of all parameters and of the inputs. ``plain`` is
``jax.vjp`` of the equations of a textbook, with recurrences in a ``lax.scan``. ``fnnet-checkpointed`` keeps the carries
of about √T steps and computes the others again. Attention has heads of 32 features and ``H`` inputs. A ratio is the
median over the rounds of a contender's time divided by the time of fnnet with its hand-written rule in the same round;
if it is greater than 1, fnnet is faster. The memory is what the compiled program needs in addition to its arguments and
results.

The times depend on the addresses of the arrays in the memory of a process. So every contender is measured in several
processes, and the medians are taken over the rounds of all processes. Run it on an idle machine, like ``conv``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from experiments.benchmarks import report
from experiments.benchmarks.harness import Comparison, compare, ratio
from experiments.benchmarks.recurrent_contenders import CONTENDERS, RECURRENT_ONLY
from experiments.benchmarks.recurrent_task import KINDS, SHAPES, Kind, Task
from experiments.benchmarks.start import start

REFERENCE = "fnnet-manual"
PACKAGES = ("jax", "jaxlib", "numpy", "flax", "torch")


@dataclass(frozen=True)
class Config:
    layers: tuple[Kind, ...] = ()
    """Cells to measure, or attention; all of them by default."""
    shapes: tuple[int, ...] = ()
    """Numbers of the shapes, from 0; all of them by default."""
    rounds: int = 3
    """Number of rounds that are timed for each contender and shape in a process, after the first one."""
    processes: int = 3
    """Number of new processes for each contender and shape, one after the other."""
    only: tuple[str, ...] = ()
    """Contenders to measure; all of them by default."""
    output: Path = Path("runs/benchmarks/recurrent.json")
    """File for the description of the machine, the versions and all numbers; an existing file is replaced."""


def run(config: Config) -> None:
    contenders, machine, console = start(CONTENDERS, config.only, PACKAGES)
    shapes = [SHAPES[number] for number in config.shapes or range(len(SHAPES))]

    kept: list[dict[str, Any]] = []
    for kind in config.layers or KINDS:
        comparisons = []
        able = {name: f for name, f in contenders.items() if kind != "attention" or name not in RECURRENT_ONLY}
        for task in (Task(kind, *shape) for shape in shapes):
            with console.status("") as status:
                taken = compare(able, task, config.rounds, status.update, processes=config.processes)
            comparisons.append((task, taken))
        console.print(table(kind, comparisons))
        kept += [{"task": asdict(task)} | report.as_json(c, REFERENCE) for task, c in comparisons]
        report.write_json(config.output, {"environment": machine, "config": asdict(config), "tasks": kept})
    console.print(f"The numbers are in {config.output}.", highlight=False)


def table(kind: str, comparisons: list[tuple[Task, Comparison]]) -> Table:
    """Return one row for each shape: the milliseconds of the reference, the ratios of the others to it, and the MiB.

    The reference is fnnet with its hand-written rule, or the first contender if that is not measured.
    """
    names = list(comparisons[0][1].results)
    reference = REFERENCE if REFERENCE in names else names[0]
    rows = Table("T, N, D, H", title=f"\n{kind}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    rows.columns[0].no_wrap = True
    for name in names:
        rows.add_column(f"{name}\n{'ms' if name == reference else 'ratio'}, MiB", justify="right")
    for task, comparison in comparisons:
        results = comparison.results
        times = {name: f"{ratio(results[name], results[reference]):.2f}" for name in names}
        times[reference] = f"{1000 * median(results[reference].seconds) / task.repeats:.2f}"
        memory = {name: "" if isnan(results[name].value) else f", {results[name].value:.1f}" for name in names}
        shape = ", ".join(map(str, (task.steps, task.examples, task.inputs, task.features)))
        rows.add_row(shape, *(times[name] + memory[name] for name in names))
    return rows
