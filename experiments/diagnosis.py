"""Score the verdicts of fnnet.diagnosis on runs with known faults, on healthy runs and on runs from public questions.

Every run is trained with preflight, Watch, diagnose and remedies. A run counts as sick if a verdict is exact or
confirmed. Faults that do no harm (DeepCrime's rule, on five seeds) are left out and counted; runs that are meant to be
healthy and end worse than the best of their data set are left out, too. Intervals of 95 % are of a bootstrap over
clusters (a fault in a data set). Beside fnnet stand the published rules of four other tools on the same runs.

Without --all, each fault is put into one run, at a severity and with a data set that its name decides.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.progress import track

from experiments.faults.bases import BASES
from experiments.faults.benchmark import (
    Entry,
    all_entries,
    final_excess,
    is_certified,
    judge,
)
from experiments.faults.other_rules import TOOLS, trace_of
from experiments.faults.scoring import (
    Finding,
    as_if_sure,
    confusion,
    counts_as_fault,
    detection_precision,
    detection_recall,
    false_alarms,
    families,
    scores,
    share,
)
from experiments.results import Results, console
from experiments.tables import markdown_table, rich_table

SAMPLED_HEALTHY = 40


@dataclass(frozen=True)
class Config:
    all: bool = False
    """Run all cases of the half, and not a sample."""
    held_out: bool = False
    """Run the half that was not looked at while the thresholds were set."""
    only: str = ""
    """Run only the cases whose name contains this."""
    outcome: bool = True
    """Train the runs that tell whether a fault does harm and whether a remedy mends the whole run."""
    budget: float = 20.0
    """Steps of the reruns of a case, as a multiple of the steps of its run."""
    workers: int = 2
    """Number of processes."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Row(NamedTuple):
    """What a worker returns of a case."""

    finding: Finding
    rows: list[dict[str, Any]]  # the verdicts
    excess: tuple[float, float] | None  # the final λ of a healthy run, and its standard error
    tools: dict[str, list[str]]  # the complaints of the other tools
    error: str


def run(config: Config) -> int:
    results = Results("diagnosis", config, config.runs)
    entries = chosen(config)
    console.print(f"{len(entries)} runs: {sum(e.case.faulty for e in entries)} with a fault", highlight=False)
    start = time.perf_counter()
    rows = []
    for row in track(judged(entries, config), "diagnosing", len(entries), console=console, transient=True):
        rows.append(row)
        case = {**asdict(row.finding.case), "accepted": sorted(row.finding.case.accepted)}
        results.record(**{**asdict(row.finding), "case": case}, verdicts=row.rows, tools=row.tools, error=row.error)
    rows = healthy_by_outcome(rows, entries)
    findings = [row.finding for row in rows]
    seconds = time.perf_counter() - start
    table = [(name, str(value)) for name, value in scores(findings).items()]
    bold = scores(list(map(as_if_sure, findings)))
    table += [
        (f"{name} if suspicions counted", str(bold[name])) for name in ("detection precision", "detection recall")
    ]
    of_families = [(name, *map(str, pair)) for name, pair in families(findings).items()]
    of_tools = tool_rows(rows)
    harmless = [row.finding for row in rows if not counts_as_fault(row.finding)]
    for title, columns, cells in (
        ("scores", ("measure", "value [95 %]"), table),
        ("detection by family", ("family", "precision", "recall"), of_families),
        ("detection, beside other tools", ("tool", "precision", "recall", "false alarms per healthy run"), of_tools),
    ):
        console.print(rich_table(columns, cells, title=title))
    said = f"{len(harmless)} faults did no harm and are left out. {seconds:.0f} seconds."
    console.print(said, highlight=False)
    missed = [(f.case.name, ", ".join(f.sure) or "-", ", ".join(f.suspected) or "-") for f in findings if is_wrong(f)]
    console.print(rich_table(("not as accepted", "sure", "suspected"), missed))
    results.figure("confusion", picture(findings))
    results.summary(
        f"{said}\n\n{markdown_table(('measure', 'value'), table)}\n\n"
        f"{markdown_table(('family', 'precision', 'recall'), of_families)}\n\n"
        f"{markdown_table(('tool', 'precision', 'recall', 'false alarms'), of_tools)}\n\n"
        f"{markdown_table(('not as accepted', 'sure', 'suspected'), missed)}"
    )
    return 0


def chosen(config: Config) -> list[Entry]:
    entries = [e for e in all_entries(held_out=config.held_out) if config.only in e.case.name]
    return entries if config.all or config.only else sample(entries)


def sample(entries: Sequence[Entry]) -> list[Entry]:
    """Return one case of each fault, the one with the lowest hash of its name, and ``SAMPLED_HEALTHY`` healthy ones.

    The hard ones and the posts are among these, whatever their number.
    """

    def rank(entry: Entry) -> str:
        return hashlib.sha256(entry.case.name.encode()).hexdigest()

    faults: dict[str, Entry] = {}
    for entry in sorted(entries, key=rank):
        if entry.case.faulty:
            faults.setdefault(entry.case.fault, entry)
    healthy = [e for e in entries if not e.case.faulty]
    first = [e for e in healthy if e.case.name.startswith(("hard", "R"))]
    others = sorted((e for e in healthy if e not in first), key=rank)
    return [*faults.values(), *first, *others[: SAMPLED_HEALTHY - len(first)]]


def judged(entries: Sequence[Entry], config: Config) -> Iterator[Row]:
    """Yield what was found in each case, from several processes."""
    tasks = [(entry.case.name, config) for entry in entries]
    if config.workers == 1:
        yield from map(judged_by_name, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, context, one_thread) as pool:
        yield from pool.map(judged_by_name, tasks)


def one_thread() -> None:
    """Let a worker compute in one thread, and keep what it compiles."""
    from experiments.cli import keep_compiled_programs

    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    keep_compiled_programs()


def judged_by_name(task: tuple[str, Config]) -> Row:
    name, config = task
    entry = next(e for e in all_entries(held_out=config.held_out) if e.case.name == name)
    found, examined = judge(entry, budget=config.budget, outcome=config.outcome)
    if examined.setup is None or not examined.states or examined.history is None:
        return Row(found, [], None, {tool: ["refused"] for tool in TOOLS}, examined.error)
    rows = [
        {
            "name": row.name,
            "certainty": row.certainty,
            "layer": row.layer,
            "value": row.value,
            "threshold": row.threshold,
            "remedy": str(row.remedy),
            "outcome": None if row.outcome is None else asdict(row.outcome),
        }
        for row in examined.report.rows
    ]
    excess = None
    if not entry.case.faulty and entry.case.base in BASES:
        excess = final_excess(examined, BASES[entry.case.base])
    trace = trace_of(examined.setup, examined.states, examined.history)
    tools = {tool: rules(examined.setup, trace) for tool, rules in TOOLS.items()}
    return Row(found, rows, excess, tools, "")


def healthy_by_outcome(rows: Sequence[Row], entries: Sequence[Entry]) -> list[Row]:
    """Return the rows with ``harm = False``, which leaves them out, for runs that are not healthy by their outcome."""
    certified = {entry.case.name: entry.certified for entry in entries}
    best: dict[str, float] = {}
    for row in rows:
        if row.excess is not None and np.isfinite(row.excess[0]):
            base = row.finding.case.base
            best[base] = min(best.get(base, np.inf), row.excess[0])
    judged_rows = []
    for row in rows:
        case = row.finding.case
        if case.faulty or certified[case.name] or row.excess is None or is_certified(*row.excess, best[case.base]):
            judged_rows.append(row)
        else:
            judged_rows.append(row._replace(finding=replace(row.finding, harm=False)))
    return judged_rows


def tool_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the precision and recall of detection of fnnet and of the other tools."""
    lines = []
    for tool in ("fnnet", *TOOLS):
        findings = [
            row.finding if tool == "fnnet" else replace(row.finding, sure=tuple(row.tools[tool]))
            for row in rows
            if counts_as_fault(row.finding)
        ]
        each = (share(findings, measure) for measure in (detection_precision, detection_recall, false_alarms))
        lines.append((tool, *map(str, each)))
    return lines


def is_wrong(each: Finding) -> bool:
    """Return whether a case that counts has a false alarm, or a fault without any of its verdicts."""
    return counts_as_fault(each) and (not each.right if each.case.faulty else each.sick)


def picture(findings: Sequence[Finding]) -> Figure:
    """Return the confusion matrix as a heat map: faults by verdicts."""
    faults, verdicts, table = confusion(findings)
    figure = Figure(figsize=(4 + 0.25 * len(verdicts), 2 + 0.19 * len(faults)), layout="constrained")
    axes = figure.subplots()
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(verdicts)), verdicts, rotation=90, fontsize=7)
    axes.set_yticks(range(len(faults)), faults, fontsize=7)
    for i, j in np.argwhere(table > 0):
        color = "white" if shares[i, j] > 0.6 else "black"
        axes.text(j, i, f"{table[i, j]:.0f}", ha="center", va="center", fontsize=6, color=color)
    axes.set_xlabel("verdict")
    axes.set_ylabel("fault")
    axes.set_title("sure verdicts by injected fault")
    return figure
