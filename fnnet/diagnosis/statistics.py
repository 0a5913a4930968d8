"""The statistics that several verdicts and the reruns share, of arrays in the memory of the host."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, Any]
LARGEST_Z = 99.0


def z_of(differences: Numbers) -> float:
    """Return the mean of paired differences over its standard error, from −99 to 99; 0 for fewer than two.

    Differences that are not finite are left out.
    """
    known = differences[np.isfinite(differences)]
    if len(known) < 2:
        return 0.0
    return divided(float(known.mean()), float(known.std(ddof=1)) / math.sqrt(len(known)))


def divided(difference: float, error: float) -> float:
    """Return a difference over its standard error, from −99 to 99; without an error it is one of these, or 0."""
    if error == 0:
        return math.copysign(LARGEST_Z, difference) if difference else 0.0
    return max(-LARGEST_Z, min(difference / error, LARGEST_Z))


def theil_sen(x: Numbers, y: Numbers) -> float:
    """Return the median of the slopes between all pairs of points (Theil 1950, Sen 1968)."""
    i, j = np.triu_indices(len(x), 1)
    return float(np.median((y[j] - y[i]) / (x[j] - x[i]))) if len(i) else 0.0


def standard_columns(a: Numbers) -> Numbers:
    """Return ``(n, D)`` in float64 with mean 0, and deviation 1 in every column that varies."""
    a = np.asarray(a, np.float64).reshape(len(a), -1)
    a = a - a.mean(0)
    deviation = a.std(0)
    return a / np.where(deviation > 0, deviation, 1)


def neighbours(x: Numbers, k: int) -> Numbers:
    """Return the numbers of the ``k`` nearest other rows of each row of ``x (n, D)``, as ``(n, k)``."""
    square = np.square(x).sum(1)
    distance = square[:, None] + square - 2 * x @ x.T
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, 1, kind="stable")[:, :k]
