"""What a fault of the benchmark is, and the names of the verdicts."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from fnnet.diagnosis import Change, Setup
from fnnet.diagnosis.changes import apply

Inject = Callable[[Setup, Any], Setup]
Severity = Literal["mild", "strong", "between"]
HELD_OUT_KINDS = 10

# The verdicts by their numbers.
VERDICTS: dict[int, str] = {
    1: "output cannot express the targets",
    2: "loss is flat where the output is most wrong",
    3: "loss at the start is not that of knowing nothing",
    4: "inputs are not scaled",
    5: "targets are not scaled",
    6: "constant or copied features",
    7: "labels do not depend on the inputs",
    8: "rows occur in training and test",
    9: "a feature gives the answer away",
    10: "classes are unbalanced",
    11: "data are sorted and not shuffled",
    12: "units start identical",
    13: "a layer is dead at the start",
    14: "signal dies on the way in",
    15: "the gradient does not reach a layer",
    16: "a parameter is not connected",
    17: "the network is an affine map",
    18: "examples of a batch mix",
    19: "a step sees the future",
    20: "evaluation is random",
    21: "one batch cannot be learned",
    22: "learning rate out of range",
    23: "not finite",
    24: "diverges",
    25: "learning rate too high",
    26: "learning rate too low",
    27: "a layer stands still",
    28: "ReLUs die",
    29: "units are saturated",
    30: "gradients vanish",
    31: "gradients explode",
    32: "memory does not reach back",
    33: "state explodes through time",
    34: "a penalty rules",
    35: "noise rules",
    36: "stuck at the constant",
    37: "memorizes without learning",
    38: "a class is not learned",
    39: "optimizer's ε rules",
    40: "every gradient is clipped",
    41: "loss spikes",
    42: "at the edge of stability",
    43: "overfits",
    44: "lack of regularization",
    45: "underfits: too small",
    46: "stopped too early",
    47: "rate decayed too early",
    48: "rate still too high at the end",
    49: "validation better than training",
    50: "training and test differ",
}


@dataclass(frozen=True)
class Fault:
    """A fault that is put into healthy runs.

    ``inject(setup, severity)`` returns the faulty setup; ``mild`` and ``strong`` are the severities. ``accepted`` are
    the numbers of the verdicts that are right, and ``bases`` the names of the runs it is put into. ``certain`` says
    that it counts as a fault even if the run is not worse for it. ``layer`` is the path of the layer that a verdict
    should name. A fault may be refused with an error; where ``refused`` is True, that is right too.
    """

    name: str
    inject: Inject
    mild: Any
    strong: Any
    accepted: frozenset[int]
    bases: tuple[str, ...]
    certain: bool = False
    layer: str | None = None
    refused: bool = False

    def applied(self, setup: Setup, severity: Severity) -> Setup:
        """Return the faulty setup. Warnings of the pairing of model and loss are left out."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Cost: ")
            return self.inject(setup, self.value(severity))

    def value(self, severity: Severity) -> Any:
        """Return the severity as the number that ``inject`` takes; between the two lies their geometric mean."""
        if severity != "between":
            return self.mild if severity == "mild" else self.strong
        both = (self.mild, self.strong)
        if any(isinstance(value, (bool, str)) or not isinstance(value, (int, float)) or value <= 0 for value in both):
            return self.strong
        middle = math.sqrt(self.mild * self.strong)
        return round(middle) if all(isinstance(value, int) for value in both) else middle

    @property
    def kind(self) -> str:
        """The number of its kind, such as ``"F39"``; a kind may have several forms."""
        return self.name.split()[0]

    @property
    def held_out(self) -> bool:
        """Whether the kind of fault was not looked at while the thresholds were set."""
        return self.kind in held_out_kinds()


@cache
def held_out_kinds() -> frozenset[str]:
    """Return the ten kinds with the lowest hashes."""
    from experiments.faults import FAULTS

    kinds = {fault.kind for fault in FAULTS}
    return frozenset(sorted(kinds, key=lambda kind: hashlib.sha256(kind.encode()).hexdigest())[:HELD_OUT_KINDS])


def changed(setup: Setup, *changes: Change) -> Setup:
    """Return the setup after several changes, one after the other."""
    for change in changes:
        setup = apply(change, setup)
    return setup


def fault(
    name: str, inject: Inject, mild: Any, strong: Any, accepted: tuple[int, ...], bases: str, **options: Any
) -> Fault:
    """Return a fault; the names of the bases are separated by semicolons."""
    return Fault(name, inject, mild, strong, with_equals(accepted), tuple(bases.split("; ")), **options)


def with_equals(accepted: tuple[int, ...]) -> frozenset[int]:
    """Return the accepted verdicts with those that say the same: a rate that is out of range is too high or too low."""
    return frozenset(accepted) | ({22} if {25, 26} & set(accepted) else set())
