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
THRESHOLDS: dict[str, Threshold] = {}
