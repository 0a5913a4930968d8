"""Milliseconds of one convolution, forward and backward: fnnet by hand, ``jax.vjp`` of ``jax.lax``'s, PyTorch.

Fifteen layers of common networks, float32, without bias: forward alone, and forward with the gradients to the kernel
and to the image. A ratio is the median over the rounds of a contender's seconds divided by fnnet's in the same round:
above 1, fnnet is faster. For PyTorch it is the ratio of its faster memory format. Memory is what the compiled program
needs in addition to its arguments and results.

Run it on an idle machine: threads that wait for each other by spinning become many times slower if another program uses
one of the cores. The report has the load at the start.
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
    """Forward only, forward and backward, or one after the other."""
    rounds: int = 3
    """Timed rounds of each contender and layer in a process, after a warm-up round."""
    processes: int = 3
    """New processes of each contender and layer, one after the other."""
    layers: tuple[int, ...] = ()
    """Numbers of the layers, from 0; all of them by default."""
    output: Path = Path("runs/benchmarks/conv.json")
    """File for the machine, the versions and all numbers; an existing file is replaced."""


def run(config: Config) -> None:
    # By default every JAX process takes most of an accelerator's memory at its start, and there are several.
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
    console.print(f"numbers in {config.output}", highlight=False)


def table(part: Part, comparisons: list[tuple[Task, Comparison]]) -> Table:
    """Return one row per layer: milliseconds of fnnet, ratios of the others, and MiB of fnnet and of ``lax``."""
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
