"""The inputs: small, large, extreme and tied ones, those at kinks, and a few ordinary ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Vector = Sequence[float]
Pair = tuple[Vector, Vector]  # prediction, target

INF, LARGEST = float("inf"), float(np.finfo(np.float32).max)
ALMOST_ONE = 1 - 2.0**-24  # the largest float32 below 1
SIZES = (1e-30, 1e-10, 1e-3, 0.1, 0.5, 1, 2, 3, 5, 10, 17, 20, 50, 87, 88, 100, 1e4, 1e30, LARGEST)
FINITE = (0.0, *SIZES, *(-size for size in SIZES))
EVERYWHERE = (*FINITE, INF, -INF)


class Batch(NamedTuple):
    """Examples of one shape: inputs ``(N, D)`` and, for a loss, targets ``(N, K)`` or labels ``(N,)``."""

    inputs: Array
    target: Array | None = None


def ordinary(count: int, size: int, scale: float = 3.0) -> list[tuple[float, ...]]:
    rows = scale * np.random.default_rng(0).standard_normal((count, size))
    return [tuple(row) for row in rows.tolist()]


def column(count: int) -> list[float]:
    return [z for (z,) in ordinary(count, 1)]


def rows(examples: Iterable[Sequence[float]]) -> Array:
    return np.array(list(examples), np.float32)


def inputs(*examples: Sequence[float]) -> list[Batch]:
    """Return one batch for each length among the examples."""
    lengths = dict.fromkeys(map(len, examples))
    return [Batch(rows(x for x in examples if len(x) == length)) for length in lengths]


def pairs(*examples: Pair) -> list[Batch]:
    """Return predictions with their targets: one batch for each length, and one without examples."""
    lengths = dict.fromkeys(len(target) for _, target in examples)
    groups = [[pair for pair in examples if len(pair[1]) == length] for length in lengths]
    arrays = [(rows(x for x, _ in group), rows(y for _, y in group)) for group in groups]
    x, y = arrays[0]
    return [*(Batch(x, y) for x, y in arrays), Batch(x[:0], y[:0])]


def singles(predictions: Iterable[float], targets: Iterable[float]) -> list[Pair]:
    """Return every prediction with every target, one number each."""
    return [((x,), (y,)) for x, y in product(predictions, targets)]


def neighbours(count: int, size: int) -> list[Pair]:
    """Return ordinary predictions and targets."""
    examples = ordinary(count + 1, size)
    return list(pairwise(examples))


def around(x: float) -> tuple[float, ...]:
    """Return a number between its two neighbours in float32."""
    middle = np.float32(x)
    below, above = (np.nextafter(middle, np.float32(end)) for end in (-INF, INF))
    return float(below), float(middle), float(above)


SCALARS = inputs(*((z,) for z in (*EVERYWHERE, *around(1), *around(-1), *around(3), *around(-3))), *ordinary(100, 1))

LOGITS = [
    (0, 0, 0),
    (1e-30, -1e-30, 0),
    (1e-10, 0, -1e-10),
    (1e-3, 0, 0),
    (1, 1, 0),
    (2, 1, 0),
    (5, 3, -2),
    (10, 0, 0),
    (0, 17, -17),
    (20, 0, 0),
    (50, 49, 0),
    (0, 50, 100),
    (87, 0, 0),
    (88, 0, -88),
    (100, 0, 0),
    (1e4, 0, -1e4),
    (-1e4, 1e4, 1e4),
    (1e30, 0, 1),
    (LARGEST, 0, -LARGEST),
    (LARGEST, LARGEST, LARGEST),
    (0, 1, -INF),
    (-INF, 20, 0),
    (3, -INF, -INF),
    *ordinary(20, 3),
]
ONE_LOGIT = [(z,) for z in (0.0, 1e-30, 1e4, -1e4, LARGEST)]
UNBOUNDED = [(INF, 0, 1), (0, INF, -INF)]
AXES, THREES = inputs(*LOGITS, *ONE_LOGIT, *UNBOUNDED), inputs(*LOGITS, *UNBOUNDED)
GATES = inputs(
    *product((0, 1, -1, 1e-30, 1e4, -1e30, LARGEST), EVERYWHERE),
    *((INF, v) for v in FINITE),
    *ordinary(20, 2),
)
DISTRIBUTIONS = [(1, 0, 0), (0, 1, 0), (0.5, 0.25, 0.25), (0, 0.5, 0.5), (0.7, 0.2, 0.1)]
PROBABILITIES = [
    (1, 0, 0),
    (0.5, 0.25, 0.25),
    (0, 0.5, 0.5),
    (0.7, 0.2, 0.1),
    (1e-30, ALMOST_ONE, 6e-8),
    (1 / 3, 1 / 3, 1 / 3),
    (1e-3, 0.999, 1e-10),
]


def with_classes(predictions: Sequence[Vector]) -> list[Batch]:
    """Return each prediction with every label and with distributions; no example is a batch too."""
    labelled = list(product(predictions, range(3)))
    return [
        Batch(rows(x for x, _ in labelled), np.array([label for _, label in labelled], np.int32)),
        *pairs(*product(predictions, DISTRIBUTIONS)),
    ]


def with_one_class(predictions: Sequence[Vector]) -> list[Batch]:
    """Return predictions of a single class with its label and with its distribution."""
    one = rows(predictions)
    return [Batch(one, np.zeros(len(one), np.int32)), *pairs(*((x, (1.0,)) for x in predictions))]


CLASS_LOGITS = with_classes(LOGITS)  # a single logit is refused, because its softmax is always 1
CLASS_PROBABILITIES = [*with_classes(PROBABILITIES), *with_one_class([(1.0,), (0.5,), (1e-30,)])]
NEAR_DISTRIBUTIONS = pairs(
    *product(PROBABILITIES, DISTRIBUTIONS),
    *((y, y) for y in DISTRIBUTIONS),
    *((p, (0.3, 0.7)) for p in product(around(0.3), around(0.7))),
)

REALS = pairs(
    *singles((*EVERYWHERE, *around(1), *around(-1), 2e19, -1e-19), (0,)),
    *singles(around(0.3), (0.3,)),
    *neighbours(50, 1),
    ((1, 2, 3), (1, 2, 3)),
    ((1, 2, 3), (1, 2, 3 + 1e-6)),
    ((1e30, 0, -1e-30), (-1e30, 0, 1e-30)),
    ((LARGEST, 0, 0), (-LARGEST, 0, 0)),
    ((LARGEST, LARGEST, LARGEST), (0, 0, 0)),
    ((1e4, 1e-4, 1), (-1e4, 0, 1)),
    *neighbours(20, 3),
)
DIRECTIONS = pairs(
    *singles((0, 2, -3, 1e-30, LARGEST), (1, -1e-3, 0)),
    ((1, 2, 3), (1, 2, 3)),
    ((1, 2, 3), (2, 4, 6)),
    ((0, 2, 0), (0, -3, 0)),
    ((1, 2, 3), (-1, -2, -3.01)),
    ((1, 0, 0), (0, 1, 0)),
    ((1, 1e-4, 0), (1, 0, 0)),
    ((1, 1e-10, 0), (1, 0, 0)),
    ((0, 0, 0), (1, 2, 3)),
    ((1, 2, 3), (0, 0, 0)),
    ((1e30, 2e30, 1e30), (1e-30, 1e-30, 2e-30)),
    ((LARGEST, LARGEST, 0), (1, -1, 1)),
    *neighbours(20, 3),
)

YES_NO = (0, 1, 0.5, 0.3)
CHANCES = (0, 1e-30, 1e-10, 6e-8, 1e-3, 0.1, *around(0.3), *around(0.5), 0.7, 0.999, ALMOST_ONE, 1)
BINARY_PROBABILITIES = pairs(
    *singles(CHANCES, YES_NO),
    ((0, 1, 0.5), (0, 1, 0.5)),
    ((0.9, 0.2, 1e-3), (1, 0, 0)),
)
BINARY_LOGITS = pairs(
    *singles((*EVERYWHERE, *column(20)), YES_NO),
    ((0, 17, -17), (0, 1, 0.5)),
    ((100, -100, 1e-3), (1, 0, 0)),
)
MARGINS = pairs(
    *singles((*EVERYWHERE, *around(1), *around(-1), *column(20)), (1, -1)),
    ((1, -1, 0), (1, -1, 1)),
    ((0.5, 3, -1e-3), (1, 1, -1)),
)
COUNTS = pairs(
    *singles((*EVERYWHERE, *column(20)), (0, 1, 3, 10, 1000)),
    ((0, 1, -1), (0, 3, 1)),
    ((-87, 5, 0.1), (0, 150, 2)),
)

# Means, then logarithms of variances
DISTANCES = (0, 1e-36, 1e-10, -1e-3, 1, -3, 1e4, -1e10, 1e30)
LOG_VARIANCES = (0, 1, -1, 10, -10, 20, -20, 87, -87, 89, -89, 100, -100, 150, -150, 1e4, -1e4, LARGEST, -LARGEST)
NORMALS = pairs(
    *((mean_and_log_variance, (0,)) for mean_and_log_variance in product(DISTANCES, (*LOG_VARIANCES, INF, -INF))),
    *(((3, s), (3,)) for s in LOG_VARIANCES),
    *((mean_and_log_variance, (0.5,)) for mean_and_log_variance in ordinary(20, 2)),
    ((1, 2, 0, 0.5), (1, 3)),
    ((0, 1e4, 1e4, -1), (1, 1e4)),
)

WEIGHTS = inputs(*((w,) for w in (*FINITE, 2e19, -1e-19)), *ordinary(20, 4))
