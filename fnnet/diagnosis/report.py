"""What a diagnosis returns: verdicts, and the report that holds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from fnnet import checks

Certainty: TypeAlias = Literal["exact", "confirmed", "suspected", "note", "refuted"]

# From the most to the least certain.
CERTAINTIES: dict[Certainty, str] = {
    "exact": "a theorem about this program and these data",
    "confirmed": "a rerun with one thing changed mended it",
    "suspected": "a statistic beyond its threshold, not tested by a rerun",
    "note": "a fact that does no harm by itself",
    "refuted": "a rerun with one thing changed did not mend it",
}


class NotLookedAt(Exception):
    """Raised by a check that cannot be made on this run; the message says why, and what would make it possible."""


@dataclass(frozen=True)
class Outcome:
    """What a rerun with one change gave, compared with the same batches and random numbers without the change.

    ``z`` is the mean of the paired differences of the losses over their standard error, and ``effect`` the share of the
    excess loss ``L - L*`` that the change removed; both are positive where the change helped. ``sham_z`` compares it in
    the same way with a change that is not expected to help. ``steps`` counts the updates of the rerun.
    """

    z: float
    effect: float
    sham_z: float
    steps: int
    before: tuple[float, ...] = ()  # λ on the probe set as the unchanged rerun goes on
    after: tuple[float, ...] = ()  # λ on the probe set as the changed rerun goes on


@dataclass(frozen=True)
class Verdict:
    """One thing that is wrong with a run, or may be, with the number that says so.

    ``statistic`` is the formula of ``value`` in words; ``value`` lies beyond ``threshold``, and healthy runs had values
    in the range ``healthy``, None where that was not measured. ``sentence`` says it to a reader who has never heard of
    the statistic. ``layer`` is the path of the layer and ``window`` the first and last step where it holds; None where
    it concerns all of them. ``explains`` has the names of the verdicts that are symptoms of this one. ``remedy`` is the
    change that is expected to mend it, and ``outcome`` what a rerun with that change gave.
    """

    name: str
    certainty: Certainty
    sentence: str
    statistic: str
    value: float
    threshold: float
    healthy: tuple[float, float] | None
    layer: str | None = None
    window: tuple[int, int] | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    explains: tuple[str, ...] = ()
    remedy: Any = None
    outcome: Outcome | None = None

    def __post_init__(self) -> None:
        checks.require(
            self.certainty in CERTAINTIES,
            f"Verdict: certainty is {self.certainty!r}; expected one of {list(CERTAINTIES)}",
        )

    @property
    def sick(self) -> bool:
        return self.certainty in ("exact", "confirmed")


Check: TypeAlias = Callable[[Any], Verdict | list[Verdict] | None]


@dataclass(frozen=True)
class Report:
    """The verdicts on a run. ``report.ok`` is True if none is exact or confirmed; ``str(report)`` is a table.

    ``rows`` are the verdicts, the most certain first and causes before symptoms. ``fine`` names the checks that found
    nothing, and ``not_looked_at`` says by name why a check could not be made. ``a + b`` joins two reports on one run.
    """

    rows: tuple[Verdict, ...]
    fine: tuple[str, ...] = ()
    not_looked_at: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not any(row.sick for row in self.rows)

    @property
    def symptoms(self) -> tuple[str, ...]:
        """The names of the verdicts that an exact or a confirmed one explains."""
        names = {name for row in self.rows if row.sick for name in row.explains}
        return tuple(row.name for row in self.rows if row.name in names)

    def __getitem__(self, name: str) -> Verdict:
        """Return the first verdict of this name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"Report: there is no verdict {name!r}; there are {[row.name for row in self.rows]}")

    def __add__(self, other: Report) -> Report:
        rows = self.rows + tuple(row for row in other.rows if row not in self.rows)
        fine = tuple(dict.fromkeys(self.fine + other.fine))
        left_out = {**self.not_looked_at, **other.not_looked_at}
        return Report(in_order(rows), fine, {name: why for name, why in left_out.items() if name not in fine})

    def __str__(self) -> str:
        return as_table(self)

    def save_json(self, path: str | Path) -> None:
        """Write the report to a new file; an existing one raises ``FileExistsError``."""
        with Path(path).open("x", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=1, default=str)


def report_of(checks: Mapping[str, Check], subject: Any, leave_out: Iterable[str] = ()) -> Report:
    """Return the report of checks by the names of their verdicts, each a function of the subject.

    A check returns a verdict, several, or none. One that raises ``NotLookedAt`` is in ``not_looked_at``, and so are
    those to leave out.
    """
    left_out = list(leave_out)
    unknown = sorted(set(left_out) - set(checks))
    if unknown:
        raise ValueError(f"diagnosis: leave_out has {unknown}; expected names of verdicts, of {sorted(checks)}")
    rows: list[Verdict] = []
    fine: list[str] = []
    skipped = dict.fromkeys(left_out, "left out")
    for name, check in checks.items():
        if name in left_out:
            continue
        try:
            given = check(subject)
        except NotLookedAt as reason:
            skipped[name] = str(reason)
            continue
        verdicts = given if isinstance(given, list) else [] if given is None else [given]
        rows += verdicts
        fine += [] if verdicts else [name]
    return Report(in_order(tuple(rows)), tuple(fine), skipped)


def in_order(rows: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    """Return the verdicts, the most certain first, and those of one certainty in the order of their causes."""
    ranks = list(CERTAINTIES)
    order = list(EXPLANATIONS)
    return tuple(
        sorted(rows, key=lambda row: (ranks.index(row.certainty), order.index(row.name) if row.name in order else 99))
    )


def as_table(report: Report) -> str:
    """Return one line and one sentence for each verdict, then the counts."""
    lines = []
    for row in report.rows:
        place = [row.layer or "", f"steps {row.window[0]} to {row.window[1]}" if row.window else ""]
        where = ", ".join(part for part in place if part)
        under = "" if row.name not in report.symptoms else ", a symptom"
        lines.append(f"{row.certainty.upper()}{under}: {row.name}{f' ({where})' if where else ''}")
        lines.append(f"  {row.sentence}")
        range_ = "not measured" if row.healthy is None else "{:.3g} to {:.3g}".format(*row.healthy)
        lines.append(f"  {row.statistic} = {row.value:.3g}; threshold {row.threshold:.3g}, healthy {range_}")
        if row.remedy is not None:
            alternatives = row.remedy if isinstance(row.remedy, (tuple, list)) else (row.remedy,)
            lines.append(f"  remedy: {', or '.join(map(str, alternatives))}")
        if row.outcome is not None:
            lines.append(
                f"  rerun of {row.outcome.steps} steps: z = {row.outcome.z:.1f}, effect {row.outcome.effect:.0%}, "
                f"sham z = {row.outcome.sham_z:.1f}"
            )
    counts = [
        f"{sum(row.certainty == certainty for row in report.rows)} {certainty}"
        for certainty in CERTAINTIES
        if any(row.certainty == certainty for row in report.rows)
    ]
    lines.append(", ".join([*counts, f"{len(report.fine)} fine"]))
    lines += [f"not looked at: {name}: {why}" for name, why in report.not_looked_at.items()]
    return "\n".join(lines)


DYING = (
    "loss at the start is not that of knowing nothing",
    "signal dies on the way in",
    "the gradient does not reach a layer",
    "one batch cannot be learned",
    "stuck at the constant",
    "gradients vanish",
)
SCALING = (*DYING, "a layer is dead at the start", "learning rate out of range", "units are saturated")

# Verdicts in the order from causes to symptoms, each with the symptoms that it explains where it is certain.
EXPLANATIONS: dict[str, tuple[str, ...]] = {
    "rows occur in training and test": ("validation better than training",),
    "a feature gives the answer away": ("validation better than training",),
    "output cannot express the targets": (
        "loss is flat where the output is most wrong",
        "one batch cannot be learned",
        "stuck at the constant",
    ),
    "a step sees the future": (),
    "examples of a batch mix": ("one batch cannot be learned", "stuck at the constant", "train mode differs"),
    "a parameter is not connected": (
        "the gradient does not reach a layer",
        "one batch cannot be learned",
        "a layer stands still",
    ),
    "units start identical": (
        "a layer is dead at the start",
        "signal dies on the way in",
        "the gradient does not reach a layer",
        "one batch cannot be learned",
        "stuck at the constant",
    ),
    "the network is an affine map": ("one batch cannot be learned", "underfits: too small"),
    "labels do not depend on the inputs": ("stuck at the constant", "memorizes without learning"),
    "constant or copied features": (),
    "classes are unbalanced": ("a class is not learned",),
    "data are sorted and not shuffled": ("loss spikes",),
    "inputs are not scaled": SCALING,
    "targets are not scaled": SCALING,
    "loss is flat where the output is most wrong": ("stuck at the constant",),
    "a layer is dead at the start": DYING,
    "signal dies on the way in": DYING,
    "the gradient does not reach a layer": DYING,
    "loss at the start is not that of knowing nothing": (),
    "evaluation is random": ("train mode differs",),
    "train mode differs": (),
    "learning rate out of range": (),
    "one batch cannot be learned": (),
    # In flight and after the run.
    "not finite": ("diverges", "gradients explode", "loss spikes"),
    "diverges": ("loss spikes", "learning rate too high"),
    "learning rate too high": (
        "not finite",
        "diverges",
        "ReLUs die",
        "gradients explode",
        "loss spikes",
        "at the edge of stability",
        "noise rules",
        "rate still too high at the end",
        "underfits: too small",
        "stuck at the constant",
    ),
    "ReLUs die": ("gradients vanish", "underfits: too small", "stuck at the constant", "learning rate too low"),
    "units are saturated": ("gradients vanish", "learning rate too low", "stuck at the constant"),
    "gradients vanish": (
        "a layer stands still",
        "learning rate too low",
        "underfits: too small",
        "stopped too early",
        "stuck at the constant",
    ),
    "gradients explode": ("not finite", "diverges", "loss spikes"),
    "memory does not reach back": ("gradients vanish", "underfits: too small", "stuck at the constant"),
    "state explodes through time": ("not finite", "gradients explode", "loss spikes"),
    "a penalty rules": ("learning rate too low", "underfits: too small", "stuck at the constant"),
    "optimizer's ε rules": ("learning rate too low", "stopped too early"),
    "every gradient is clipped": ("learning rate too low", "stopped too early"),
    "rate decayed too early": ("learning rate too low", "stopped too early", "underfits: too small"),
    "learning rate too low": (
        "a layer stands still",
        "underfits: too small",
        "stopped too early",
        "stuck at the constant",
    ),
    "a layer stands still": ("underfits: too small", "stopped too early", "learning rate too low"),
    "noise rules": ("rate still too high at the end", "underfits: too small", "stuck at the constant"),
    "rate still too high at the end": ("underfits: too small",),
    "training and test differ": ("memorizes without learning", "overfits", "lack of regularization"),
    "memorizes without learning": ("overfits", "lack of regularization"),
    "underfits: too small": ("stuck at the constant",),
    "stopped too early": (),
    "lack of regularization": ("overfits",),
    "overfits": (),
    "validation better than training": (),
    "a class is not learned": (),
    "stuck at the constant": (),
    "loss spikes": (),
    "at the edge of stability": (),
}
