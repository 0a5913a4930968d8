"""Measure one convolution, forward and backward: fnnet with its hand-written rule, ``jax.lax`` and PyTorch.

There are fifteen layers of common networks, float32 and without bias. Each is computed forward only, and forward with
the gradients of the kernel and of the image; for ``jax.lax`` these are by ``jax.vjp``. A ratio is the median over the
rounds of a contender's time divided by the time of fnnet in the same round; if it is greater than 1, fnnet is faster.
For PyTorch it is the ratio of its faster memory format. The memory is what the compiled program needs in addition to
its arguments and results.

Run it on an idle machine, because threads that wait for each other by spinning become many times slower if another
program uses one of the cores. The report has the load of the machine at the start.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.benchmarks import environment, report
from experiments.benchmarks.conv_contenders import CONTENDERS
from experiments.benchmarks.conv_task import TASKS, Part, Task
from experiments.benchmarks.harness import Comparison, compare, ratio

REFERENCE, BASELINE = "fnnet", "lax"
PACKAGES = ("jax", "jaxlib", "numpy", "torch")


@dataclass(frozen=True)
class Config:
    part: Literal["forward", "both", "all"] = "all"
    """Compute forward only, both forward and backward, or first the one and then the other."""
    rounds: int = 3
    """Number of rounds that are timed for each contender and layer in a process, after the first one."""
    processes: int = 3
    """Number of new processes for each contender and layer, one after the other."""
    layers: tuple[int, ...] = ()
    """Numbers of the layers, from 0; all of them by default."""
    output: Path = Path("runs/benchmarks/conv.json")
    """File for the description of the machine, the versions and all numbers; an existing file is replaced."""


def run(config: Config) -> None:
    # By default a JAX process takes most of an accelerator's memory when it starts, and there are several processes.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    console = Console()
    machine = environment.describe(PACKAGES)
    console.print("\n".join(f"{name:14}{value}" for name, value in machine.items()), highlight=False)

    parts: Iterable[Part] = ("forward", "both") if config.part == "all" else (config.part,)
    kept: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        comparisons = []
        for task in (replace(TASKS[number], part=part) for number in config.layers or range(len(TASKS))):
            with console.status("") as status:
                taken = compare(CONTENDERS, task, config.rounds, status.update, processes=config.processes)
            comparisons.append((task, taken))
        console.print(table(part, comparisons))
        kept[part] = [{"task": asdict(task)} | report.as_json(c, REFERENCE) for task, c in comparisons]
        report.write_json(config.output, {"environment": machine, "config": asdict(config), "parts": kept})
    console.print(f"The numbers are in {config.output}.", highlight=False)


def table(part: Part, comparisons: list[tuple[Task, Comparison]]) -> Table:
    """Return one row for each layer: the milliseconds of fnnet, the ratios of the others, and the memory in MiB."""
    title = {"forward": "\nforward", "both": "\nforward and both gradients"}[part]
    columns = ("layer", "fnnet ms", "lax", "PyTorch", "fnnet MiB", "lax MiB")
    rows = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in rows.columns[1:]:
        column.justify = "right"
    for task, comparison in comparisons:
        results = comparison.results
        milliseconds = 1000 * median(results[REFERENCE].seconds) / task.repeats
        torch = [ratio(result, results[REFERENCE]) for name, result in results.items() if name.startswith("pytorch")]
        rows.add_row(
            str(task),
            f"{milliseconds:.3f}",
            f"{ratio(results[BASELINE], results[REFERENCE]):.2f}",
            f"{min(torch):.2f}" if torch else "",
            *(f"{results[name].value:.2f}" for name in (REFERENCE, BASELINE)),
        )
    return rows
