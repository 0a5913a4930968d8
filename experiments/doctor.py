"""Show one faulty run as a story: the run, the verdict, the evidence, the mend, and the mended run.

``python -m experiments doctor R40`` shows the run of a public question, ``doctor "F39 rate too high"`` a fault in the
first of its runs. ``--list`` prints the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from matplotlib.figure import Figure

from experiments.cli import ExperimentError
from experiments.faults.benchmark import BUDGET, Entry, Examined, all_entries, examine
from experiments.results import Results, console
from fnnet.diagnosis import Change, Verdict
from fnnet.diagnosis.changes import apply


@dataclass(frozen=True)
class Config:
    name: Annotated[str, tyro.conf.Positional] = "F39 rate too high, strong, in digits"
    """Name of a case, or its beginning."""
    list: bool = False
    """Print the names of all cases and do nothing else."""
    budget: float = BUDGET
    """Steps of the reruns, as a multiple of the steps of the run."""
    runs: Path = Path("runs")
    """Folder for the results."""


def run(config: Config) -> int:
    entries = all_entries(draws=0, seeds=1)
    if config.list:
        for entry in entries:
            console.print(entry.case.name, highlight=False)
        return 0
    entry = found(entries, config.name)
    results = Results("doctor", config, config.runs)
    console.rule(entry.case.name)
    examined = examine(entry.make, budget=config.budget)
    if examined.error:
        console.print(f"fnnet refuses this run:\n{examined.error}", highlight=False)
        results.summary(f"fnnet refuses this run:\n\n{examined.error}")
        return 0
    assert examined.setup is not None
    assert examined.history is not None
    setup = examined.setup
    console.print(f"The run: {setup.cost.model}", highlight=False)
    console.print(f"{setup.epochs} epochs of {setup.steps_of_epoch} updates")
    console.print(f"The cost: {curve(examined.history['cost'])}")
    console.print(f"\nThe verdicts:\n{examined.report}\n", highlight=False)
    mended = mend(examined)
    if mended is None:
        console.print("There is nothing to mend.")
    else:
        row, history = mended
        console.print(f"The mend of {row.name!r}: {row.remedy}", highlight=False)
        console.print(f"The mended run; the cost: {curve(history['cost'])}")
        results.figure("cost", picture(examined.history, history, str(row.remedy)))
    results.summary(f"{entry.case.name}\n\n```\n{examined.report}\n```")
    return 0


def found(entries: Sequence[Entry], name: str) -> Entry:
    """Return the case of this name, or the first one whose name begins with it."""
    for entry in entries:
        if entry.case.name == name:
            return entry
    for entry in entries:
        if entry.case.name.startswith(name):
            return entry
    raise ExperimentError(f"there is no case {name!r}; --list shows all of them")


def mend(examined: Examined) -> tuple[Verdict, dict[str, list[float]]] | None:
    """Return the first sure verdict with a remedy, and the history of the whole run with that."""
    assert examined.setup is not None
    for row in examined.report.rows:
        if row.sick and isinstance(row.remedy, Change):
            return row, apply(row.remedy, examined.setup).fit().history
    return None


def curve(costs: Sequence[float]) -> str:
    """Return a few numbers of a curve."""
    chosen = np.unique(np.linspace(0, len(costs) - 1, 8).round().astype(int))
    return " ".join(f"{costs[i]:.3g}" for i in chosen)


def picture(before: dict[str, list[float]], after: dict[str, list[float]], remedy: str) -> Figure:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for label, history in (("as it was", before), (remedy, after)):
        axes.plot(history["epoch"], history["cost"], label=label)
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("cost")
    axes.legend()
    return figure
