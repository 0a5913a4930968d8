"""Every activation, loss and penalty in float32 against the truth at 50 digits, values and derivatives.

The inputs are a battery of small, large, tied and infinite ones; the derivatives come from the hand-written rules and
from jax.grad of the same functions. Errors are in ulps, units in the last place of the float32 nearest to the truth.
XLA flushes subnormal results to zero on CPU: 0 for a truth below 1.2e-38 counts as right, infinity for one beyond
3.4e38. Exits with status 1 if a value or a derivative by hand is NaN or has the wrong sign where there is a limit, or
if a derivative by hand is worse than autodiff's by more than 2 ulps at any input.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.progress import track
from rich.table import Table

from experiments.cli import ExperimentError
from experiments.results import Results, console
from experiments.truth.measure import Accuracy, Error, measure
from experiments.truth.subjects import subjects

COLUMNS = ("function", "inputs", "value", "by hand", "autodiff", "worse by", "NaN", "wrong sign")


@dataclass(frozen=True)
class Config:
    only: str = ""
    """Part of the names of the functions to measure; all by default."""
    runs: Path = Path("runs")
    """Folder for the results."""


def run(config: Config) -> int:
    chosen = [subject for subject in subjects() if config.only in subject.name]
    if not chosen:
        names = ", ".join(subject.name for subject in subjects())
        raise ExperimentError(f"no function has {config.only!r} in its name; there are {names}")
    results = Results("accuracy", config, config.runs)
    rows = [measure(subject) for subject in track(chosen, "measuring", console=console, transient=True)]
    for row in rows:
        results.record(**row._asdict(), ok=row.ok)
    console.print(table(rows))
    bad = [row.name for row in rows if not row.ok]
    verdict = f"Not as accurate as promised: {', '.join(bad)}." if bad else "Every function keeps the promises."
    console.print(verdict, highlight=False)
    results.summary(f"Largest errors in ulps, and the input of each.\n\n{markdown(rows)}\n\n{verdict}")
    return 1 if bad else 0


def table(rows: list[Accuracy]) -> Table:
    """The numbers alone; the inputs that they belong to are in the folder of results."""
    shown = Table(*COLUMNS, title="largest errors in ulps", box=None)
    for row in rows:
        shown.add_row(*(text.split(" at ")[0] for text in cells(row)), style=None if row.ok else "bold red")
    return shown


def markdown(rows: list[Accuracy]) -> str:
    head = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    return "\n".join([*head, *(f"| {' | '.join(cells(row))} |" for row in rows)])


def cells(row: Accuracy) -> list[str]:
    errors = (row.value, row.by_hand, row.autodiff, row.excess)
    return [row.name, str(row.examples), *map(cell, errors), str(row.nan), str(row.wrong_sign)]


def cell(error: Error) -> str:
    number = f"{error.ulps:.1f}" if error.ulps < 1000 else f"{error.ulps:.0e}".replace("e+0", "e").replace("e+", "e")
    return f"{number} at {error.at}" if error.ulps else "0"
