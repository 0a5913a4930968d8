"""Penalties, on one weight array."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fnnet import penalties
from tests.reference.pair import Reference


def sign(w: float) -> float:
    return float(w > 0) - float(w < 0)


def over_entries(f: Callable[[Any, float], float], df: Callable[[Any, float], float]) -> Reference:
    return Reference(
        lambda penalty, w: sum(f(penalty, float(v)) for v in w.flat),
        lambda penalty, w: np.array([df(penalty, float(v)) for v in w.flat]).reshape(w.shape),
    )


PENALTIES = {
    penalties.L1: over_entries(lambda p, w: p.strength * abs(w), lambda p, w: p.strength * sign(w)),
    penalties.L2: over_entries(lambda p, w: p.strength / 2 * w**2, lambda p, w: p.strength * w),
    penalties.ElasticNet: over_entries(
        lambda p, w: p.l1 * abs(w) + p.l2 / 2 * w**2, lambda p, w: p.l1 * sign(w) + p.l2 * w
    ),
}
