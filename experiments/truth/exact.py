"""Numbers of 50 digits, and the error of a float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from mpmath import MPContext

mp = MPContext()
mp.dps = 50  # next to a term of 1, the smallest normal float32, 1.2e-38, keeps 12 of them

Exact: TypeAlias = Any  # mp.mpf; mpmath has no types


class Sum(NamedTuple):
    """A number that the formula gives as a sum, and the magnitude of the largest term that enters it."""

    value: Exact
    largest: Exact


Entry: TypeAlias = Any  # Exact or Sum
Row = list[Exact]
Entries = list[Entry]
Truth = Callable[..., tuple[Entries, list[Entries]]]  # (inputs (D,)[, target]) -> outputs (M,), derivatives (M, D)

INF = mp.inf
SMALLEST_NORMAL, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
AFTER_LARGEST = 2.0**128
SIGN_UNITS = 8.0  # a truth that is closer to 0 has no sign that rounding must keep


def exact(x: Any) -> Exact:
    """Return a float32 or an integer as it is, every bit of it."""
    return mp.mpf(float(x))


def with_terms(value: Exact, *terms: Exact) -> Sum:
    """Return a number with the terms of its formula."""
    return Sum(value, max(abs(term) for term in terms))


def value_of(entry: Entry) -> Exact:
    return entry.value if isinstance(entry, Sum) else entry


def largest_of(entry: Entry) -> Exact:
    """Return the magnitude of the largest term; a number whose formula is no sum is its only term."""
    return max(entry.largest, abs(entry.value)) if isinstance(entry, Sum) else abs(entry)


def times(factor: Exact, entry: Entry) -> Entry:
    """Return ``factor · entry``, which is 0 for the factor 0."""
    if isinstance(entry, Sum):
        return Sum(times(factor, entry.value), times(abs(factor), entry.largest))
    return mp.mpf(0) if factor == 0 else factor * entry


def product(a: Entry, b: Entry) -> Sum:
    """Return ``a · b``, where the rounding of the largest term of each is multiplied by the other."""
    x, y = value_of(a), value_of(b)
    return Sum(x * y, max(abs(x) * largest_of(b), largest_of(a) * abs(y)))


def units(computed: float, truth: Entry) -> float:
    """Return ``|computed − truth|`` in units in the last place of the largest term that enters the truth.

    The unit is the spacing of the float32 numbers at that term, at least the spacing at the smallest normal number. XLA
    flushes subnormal results to zero on CPU, so 0 for a subnormal truth is no error. Beyond the largest float32,
    infinity is right: it counts as 2^128, the number that would follow. An infinite limit must be met exactly. NaN is
    infinitely wrong.
    """
    value = value_of(truth)
    if math.isnan(computed) or mp.isinf(value):
        return 0.0 if computed == value else math.inf
    if computed == 0 and abs(value) < SMALLEST_NORMAL:
        return 0.0
    return float(abs(within(exact(computed)) - within(value))) / unit(truth)


def unit(truth: Entry) -> float:
    return spacing(float(within(largest_of(truth))))


def within(x: Exact) -> Exact:
    return max(min(x, AFTER_LARGEST), -AFTER_LARGEST)


def spacing(x: float) -> float:
    """Return the spacing of the float32 numbers at ``x``."""
    size = min(max(abs(x), SMALLEST_NORMAL), LARGEST)
    return 2.0 ** (math.frexp(float(np.float32(size)))[1] - 24)


def opposite(computed: float, truth: Entry) -> bool:
    """Return whether the signs contradict each other; 0, and a truth within ``SIGN_UNITS`` of 0, contradict none."""
    value = value_of(truth)
    if abs(value) <= SIGN_UNITS * unit(truth):
        return False
    return bool((computed > 0 and value < 0) or (computed < 0 and value > 0))
