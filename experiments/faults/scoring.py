"""Scores of verdicts against what is known to be wrong, with intervals over clusters.

Runs of one fault on one data set are not independent, whatever their seeds and severities: they are a cluster, and the
bootstrap draws clusters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from experiments.faults.fault import VERDICTS
from fnnet.diagnosis import Report, Verdict

DRAWS = 2000
HEALTHY = "healthy"
NONE = "none"
REFUSED = "refused"
Counts = tuple[float, float]  # of what is counted, and of what it is a share


@dataclass(frozen=True)
class Case:
    """A run of which it is known what is wrong. ``accepted`` are the names of the right verdicts, none if healthy."""

    name: str
    fault: str
    base: str
    family: str
    severity: str
    accepted: frozenset[str]
    layer: str | None = None
    refused: bool = False

    @property
    def faulty(self) -> bool:
        return self.fault != HEALTHY

    @property
    def cluster(self) -> str:
        return f"{self.fault} in {self.base}"


@dataclass(frozen=True)
class Finding:
    """What was found in a case: the names of the verdicts by certainty, without those that another one explains.

    ``harm`` says whether the run is worse than its healthy twin, and ``mended`` whether the remedy, applied to the
    whole run with other seeds, brings it back to that; None where it is not known.
    """

    case: Case
    sure: tuple[str, ...]  # exact or confirmed
    suspected: tuple[str, ...] = ()
    others: tuple[str, ...] = ()  # notes and refuted
    layers: tuple[str | None, ...] = ()  # of the sure ones
    symptoms: tuple[str, ...] = ()
    harm: bool | None = None
    mended: bool | None = None
    seconds: float = 0.0

    @property
    def sick(self) -> bool:
        return bool(self.sure)

    @property
    def right(self) -> tuple[str, ...]:
        accepted = self.case.accepted | ({REFUSED} if self.case.refused else frozenset())
        return tuple(name for name in self.sure if name in accepted)


def finding(case: Case, report: Report, **more: Any) -> Finding:
    """Return what a report says about a case."""
    symptoms = report.symptoms

    def named(*certainties: str) -> list[Verdict]:
        return [row for row in report.rows if row.certainty in certainties and row.name not in symptoms]

    def names(rows: Iterable[Verdict]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.name for row in rows))

    sure = {row.name: row for row in reversed(named("exact", "confirmed"))}
    order = names(named("exact", "confirmed"))
    return Finding(
        case,
        order,
        names(named("suspected")),
        names(named("note", "refuted")),
        tuple(sure[name].layer for name in order),
        symptoms,
        **more,
    )


class Share(NamedTuple):
    """A share with its interval of 95 %; ``clusters`` is the number of clusters that it rests on."""

    value: float
    low: float
    high: float
    clusters: int
    of: float

    def __str__(self) -> str:
        if self.of == 0:
            return "none to count"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.of:.0f}"


def share(findings: Sequence[Finding], counts: Callable[[Finding], Counts], seed: int = 0) -> Share:
    """Return ``Σ a / Σ b`` with the cluster bootstrap's interval, where ``counts(finding) = (a, b)``."""
    sums: dict[str, np.ndarray[Any, Any]] = {}
    for each in findings:
        sums[each.case.cluster] = sums.get(each.case.cluster, np.zeros(2)) + np.asarray(counts(each), float)
    table = np.array([pair for pair in sums.values() if pair[1] > 0]).reshape(-1, 2)
    if not len(table):
        return Share(float("nan"), float("nan"), float("nan"), 0, 0)
    drawn = table[np.random.default_rng(seed).integers(0, len(table), (DRAWS, len(table)))].sum(1)
    ratios = drawn[:, 0] / drawn[:, 1]
    low, high = np.quantile(ratios, [0.025, 0.975])
    total = table.sum(0)
    return Share(float(total[0] / total[1]), float(low), float(high), len(table), float(total[1]))


def counts_as_fault(each: Finding) -> bool:
    """Return whether a case counts: a fault that does no harm is none, and it is no healthy run either."""
    return each.harm is not False


def detection_precision(each: Finding) -> Counts:
    return float(each.sick and each.case.faulty), float(each.sick)


def detection_recall(each: Finding) -> Counts:
    return float(each.sick and each.case.faulty), float(each.case.faulty)


def false_alarms(each: Finding) -> Counts:
    """Count all sure verdicts on healthy runs."""
    return (0.0, 0.0) if each.case.faulty else (float(len(each.sure)), 1.0)


def diagnosis_precision(each: Finding) -> Counts:
    return float(len(each.right)), float(len(each.sure))


def diagnosis_recall(each: Finding) -> Counts:
    return float(bool(each.right)), float(each.case.faulty)


def place(each: Finding) -> Counts:
    """Count the layers named right, of the right verdicts of faults that have a layer."""
    if each.case.layer is None or not each.right:
        return 0.0, 0.0
    return float(each.case.layer in [each.layers[each.sure.index(name)] for name in each.right]), 1.0


def mended(each: Finding) -> Counts:
    return (0.0, 0.0) if each.mended is None else (float(each.mended), 1.0)


def as_if_sure(each: Finding) -> Finding:
    """Return the finding as if suspicions counted, which shows what the reruns are worth."""
    return replace(
        each, sure=(*each.sure, *each.suspected), layers=(*each.layers, *[None] * len(each.suspected)), suspected=()
    )


MEASURES: dict[str, Callable[[Finding], Counts]] = {
    "detection precision": detection_precision,
    "detection recall": detection_recall,
    "false alarms per healthy run": false_alarms,
    "diagnosis precision": diagnosis_precision,
    "diagnosis recall": diagnosis_recall,
    "right layer": place,
    "remedies that mend": mended,
}


def scores(findings: Sequence[Finding]) -> dict[str, Share]:
    """Return all measures over the cases that count."""
    counted = [each for each in findings if counts_as_fault(each)]
    return {name: share(counted, measure) for name, measure in MEASURES.items()}


def families(findings: Sequence[Finding]) -> dict[str, tuple[Share, Share]]:
    """Return the precision and recall of detection for each family of networks."""
    counted = [each for each in findings if counts_as_fault(each)]
    names = dict.fromkeys(each.case.family for each in counted)
    own = {name: [each for each in counted if each.case.family == name] for name in names}
    return {name: (share(each, detection_precision), share(each, detection_recall)) for name, each in own.items()}


def confusion(findings: Sequence[Finding]) -> tuple[list[str], list[str], np.ndarray[Any, Any]]:
    """Return the faults, the verdicts and how often each verdict was sure in a case of each fault."""
    rows = list(dict.fromkeys(each.case.fault for each in findings))
    rows = [*(row for row in rows if row != HEALTHY), *(row for row in rows if row == HEALTHY)]
    seen = Counter(name for each in findings for name in each.sure)
    order = [*VERDICTS.values(), REFUSED]
    columns = [*(name for name in order if name in seen), *(name for name in seen if name not in order), NONE]
    table = np.zeros((len(rows), len(columns)))
    for each in findings:
        for name in each.sure or (NONE,):
            table[rows.index(each.case.fault), columns.index(name)] += 1
    return rows, columns, table
