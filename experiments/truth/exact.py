"""Numbers of 50 digits, and the distance of a float32 from one of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from mpmath import MPContext

mp = MPContext()
mp.dps = 50  # next to a term of 1, the smallest normal float32, 1.2e-38, keeps 12 of them

Exact = Any  # mp.mpf; mpmath has no types
Row = list[Exact]
Matrix = list[Row]
Truth = Callable[..., tuple[Row, Matrix]]  # (inputs (D,)[, target]) -> outputs (M,), derivatives (M, D)

INF = mp.inf
SMALLEST_NORMAL, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
AFTER_LARGEST = 2.0**128


def exact(x: Any) -> Exact:
    """A float32 or an integer as it is, every bit of it."""
    return mp.mpf(float(x))


def ulps(computed: float, truth: Exact) -> float:
    """``|computed − truth|`` in units in the last place of the float32 nearest to the truth.

    The unit is the spacing of the float32 numbers there, at least that at the smallest normal number. XLA flushes
    subnormal results to zero on CPU, so 0 for a subnormal truth is no error. Beyond the largest float32 infinity is
    right: it counts as 2^128, what would follow. A limit that is infinite must be met exactly. NaN is infinitely wrong.
    """
    if math.isnan(computed) or mp.isinf(truth):
        return 0.0 if computed == truth else math.inf
    if computed == 0 and abs(truth) < SMALLEST_NORMAL:
        return 0.0
    difference = within(exact(computed)) - within(truth)
    return float(abs(difference)) / spacing(float(within(truth)))


def within(x: Exact) -> Exact:
    return max(min(x, AFTER_LARGEST), -AFTER_LARGEST)


def spacing(x: float) -> float:
    """Of the float32 numbers at ``x``."""
    size = min(max(abs(x), SMALLEST_NORMAL), LARGEST)
    return 2.0 ** (math.frexp(float(np.float32(size)))[1] - 24)


def opposite(computed: float, truth: Exact) -> bool:
    """Whether the signs contradict each other; zero contradicts none."""
    return bool((computed > 0 and truth < 0) or (computed < 0 and truth > 0))
