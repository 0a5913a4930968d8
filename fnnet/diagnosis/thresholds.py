"""The thresholds of all verdicts, in one table, each with the range of healthy runs and its source."""

from __future__ import annotations

from typing import NamedTuple


class Threshold(NamedTuple):
    """A bound of a statistic.

    ``healthy`` is the range that the statistic had in the healthy runs of ``experiments/faults`` or of the source.
    ``source`` names the paper, the measurement or the derivation that the bound comes from.
    """

    value: float
    healthy: tuple[float, float]
    source: str


# By "verdict: statistic". A verdict that has several bounds has several entries.
THRESHOLDS: dict[str, Threshold] = {
    "rerun: z": Threshold(3.0, (-3.0, 3.0), "a normal number is larger in one of 741 cases"),
    "rerun: effect": Threshold(0.1, (-1.0, 0.1), "a tenth of the excess loss"),
    "rerun: z over the sham": Threshold(2.0, (-2.0, 2.0), "a normal number is larger in one of 44 cases"),
}
