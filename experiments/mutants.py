"""Check the checker: run three gradient checkers on deliberately broken rules and on their healthy counterparts.

A mutant is one fault in one hand-written derivative of a layer, an activation, a loss, a penalty or a whole cost. The
kill rate is the fraction of the checks of broken rules that a checker flags; the false-alarm rate is the fraction of
the checks of healthy rules that it flags. Neither means much alone: a checker that flags everything kills every mutant.
The exit status is 1 if fnnet.check_gradients misses a mutant or flags a healthy rule.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

from rich.progress import track
from rich.table import Table

from experiments.mutations import CHECKERS, MUTANTS, Mutant, Point, Subject
from experiments.results import Results, console

OURS = "fnnet.check_gradients"
Mutants = tuple[Mutant, ...]


@dataclass(frozen=True)
class Config:
    seeds: int = 20
    """Number of random points at which every healthy rule is checked."""
    mutant_seeds: int = 3
    """Number of random points at which every mutant is checked."""
    only: str = ""
    """Check only the mutants whose name contains this, "target", "weights" or "inputs" for example; empty for all."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Check(NamedTuple):
    """One verdict of one checker. ``mutant`` is empty if the rule was healthy."""

    checker: str
    subject: str
    mutant: str
    seed: int
    flagged: bool
    seconds: float


class Scores(NamedTuple):
    """Rates in per cent, and seconds per check: the median over the healthy checks, which excludes compilation."""

    killed: float
    false_alarms: float
    seconds: float


def run(config: Config) -> int:
    results = Results("mutants", config, config.runs)
    chosen = tuple(mutant for mutant in MUTANTS if config.only in mutant.name)
    checks = []
    for check in all_checks(config, chosen):
        checks.append(check)
        results.record(**check._asdict())
    scores = {checker: scores_of(checker, checks) for checker in CHECKERS}
    console.print(table_of(chosen, checks, scores))
    console.print(alarms_of(chosen, checks))
    ours = scores[OURS]
    perfect = ours.killed == 100 and ours.false_alarms == 0
    verdict = f"{OURS}: " + (
        "every mutant killed, no false alarm" if perfect else "A MUTANT SURVIVED OR A HEALTHY RULE WAS FLAGGED"
    )
    console.print(verdict, style="bold green" if perfect else "bold red", highlight=False)
    results.summary(summary_of(chosen, checks, scores) + f"\n\n{verdict}")
    return 0 if perfect else 1


def all_checks(config: Config, mutants: Mutants) -> Iterator[Check]:
    """Yield the checks of every healthy subject and of its mutants, at the same points and by every checker."""
    subjects = list(dict.fromkeys(mutant.subject for mutant in mutants))
    for subject in track(subjects, "checking the checkers", console=console, transient=True):
        for seed in range(max(config.seeds, config.mutant_seeds)):
            point = subject.at(seed)
            if seed < config.seeds:
                yield from verdicts(subject, "", seed, point)
            for mutant in mutants if seed < config.mutant_seeds else ():
                if mutant.subject == subject:
                    with mutant.applied():
                        yield from verdicts(subject, mutant.name, seed, point)


def verdicts(subject: Subject, mutant: str, seed: int, point: Point) -> Iterator[Check]:
    for name, checker in CHECKERS.items():
        start = time.perf_counter()
        flagged = checker(subject, point)
        yield Check(name, subject.name, mutant, seed, flagged, time.perf_counter() - start)


def scores_of(checker: str, checks: list[Check]) -> Scores:
    own = [check for check in checks if check.checker == checker]
    healthy = [check for check in own if not check.mutant]
    return Scores(
        100 * mean(check.flagged for check in own if check.mutant),
        100 * mean(check.flagged for check in healthy),
        median(check.seconds for check in healthy),
    )


def table_of(mutants: Mutants, checks: list[Check], scores: dict[str, Scores]) -> Table:
    table = Table("mutant", title=f"how often {', '.join(CHECKERS)} kill each mutant", box=None)
    for name in CHECKERS:
        table.add_column(short(name), justify="right")
    for mutant in mutants:
        table.add_row(mutant.name, *(shown(*count(checks, name, mutant=mutant.name)) for name in CHECKERS))
    table.add_section()
    for label, cells in summary_rows(len(mutants), scores).items():
        table.add_row(f"[bold]{label}[/]", *(f"[bold]{cell}[/]" for cell in cells))
    return table


def alarms_of(mutants: Mutants, checks: list[Check]) -> Table:
    table = Table("healthy rules with false alarms", *map(short, CHECKERS), box=None)
    for subject in dict.fromkeys(mutant.subject.name for mutant in mutants):
        counts = [count(checks, name, subject=subject) for name in CHECKERS]
        if any(flagged for flagged, _ in counts):
            table.add_row(subject, *(f"{flagged}/{of}" if flagged else "" for flagged, of in counts))
    return table


def short(checker: str) -> str:
    """Return the library that a checker comes from, for narrow columns."""
    return checker.split(".")[0]


def count(checks: list[Check], checker: str, *, mutant: str = "", subject: str | None = None) -> tuple[int, int]:
    """Return ``(flagged, checked)`` of a mutant or, without a mutant's name, of the healthy rules."""
    flags = [
        check.flagged
        for check in checks
        if check.checker == checker and check.mutant == mutant and subject in (None, check.subject)
    ]
    return sum(flags), len(flags)


def shown(flagged: int, of: int) -> str:
    color = "green" if flagged == of else "yellow" if flagged else "red"
    return f"[{color}]{flagged}/{of}[/]"


def summary_rows(number: int, scores: dict[str, Scores]) -> dict[str, list[str]]:
    return {
        f"kill rate over {number} mutants": [f"{s.killed:.1f} %" for s in scores.values()],
        "false-alarm rate": [f"{s.false_alarms:.1f} %" for s in scores.values()],
        "seconds per check": [f"{s.seconds:.3f}" for s in scores.values()],
    }


def summary_of(mutants: Mutants, checks: list[Check], scores: dict[str, Scores]) -> str:
    """Return the rates, and the mutants that some checker missed at least once, as Markdown."""
    counts = {m.name: [count(checks, name, mutant=m.name) for name in CHECKERS] for m in mutants}
    lived = {name: [f"{k}/{n}" for k, n in cells] for name, cells in counts.items() if any(k < n for k, n in cells)}
    return (
        f"{markdown_table(summary_rows(len(mutants), scores))}\n\n"
        f"Mutants that survived at least one check, and how often each checker killed them:\n\n{markdown_table(lived)}"
    )


def markdown_table(rows: dict[str, list[str]]) -> str:
    lines = [["", *CHECKERS], ["---"] * (1 + len(CHECKERS)), *([label, *cells] for label, cells in rows.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
