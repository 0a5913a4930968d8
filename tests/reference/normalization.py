"""Normalization: ``value(params, x, groups, epsilon)`` and ``derivative(params, x, dy, groups, epsilon)``.

``groups`` lists the indices of the numbers that are normalized together.
"""

from typing import Any

import numpy as np

from tests.reference.pair import Reference

Groups = list[list[tuple[int, ...]]]


def layer_groups(shape: tuple[int, ...]) -> Groups:
    return [[(*position, c) for c in range(shape[-1])] for position in np.ndindex(shape[:-1])]


def batch_groups(shape: tuple[int, ...]) -> Groups:
    return [[(*position, c) for position in np.ndindex(shape[:-1])] for c in range(shape[-1])]


def group_groups(shape: tuple[int, ...], groups: int) -> Groups:
    size = shape[-1] // groups
    return [
        [(n, *position, c) for position in np.ndindex(shape[1:-1]) for c in range(size * g, size * (g + 1))]
        for n in range(shape[0])
        for g in range(groups)
    ]


def standardized(x: np.ndarray, places: list[tuple[int, ...]], epsilon: float) -> tuple[list[float], float]:
    """Return ``x̂`` of one group and ``r = 1 / √(σ² + ε)``."""
    values = [x[place] for place in places]
    mean = sum(values) / len(values)
    r = 1 / np.sqrt(sum((value - mean) ** 2 for value in values) / len(values) + epsilon)
    return [(value - mean) * r for value in values], r


def normalize(params: Any, x: np.ndarray, groups: Groups, epsilon: float) -> np.ndarray:
    y = np.zeros_like(x)
    for places in groups:
        for place, value in zip(places, standardized(x, places, epsilon)[0], strict=True):
            y[place] = value * params["scale"][place[-1]] + params["shift"][place[-1]]
    return y


def normalize_derivative(
    params: Any, x: np.ndarray, dy: np.ndarray, groups: Groups, epsilon: float
) -> tuple[Any, np.ndarray]:
    """Return the gradients by the whole Jacobian of a group, ``∂x̂_j / ∂x_i = r ([i = j] − 1/n − x̂_i x̂_j / n)``."""
    dparams, dx = {name: np.zeros(x.shape[-1]) for name in ("scale", "shift")}, np.zeros_like(x)
    for places in groups:
        x_hat, r = standardized(x, places, epsilon)
        n = len(places)
        for j, at in enumerate(places):
            dparams["scale"][at[-1]] += dy[at] * x_hat[j]
            dparams["shift"][at[-1]] += dy[at]
            for i, place in enumerate(places):
                jacobian = r * ((i == j) - 1 / n - x_hat[i] * x_hat[j] / n)
                dx[place] += dy[at] * params["scale"][at[-1]] * jacobian
    return dparams, dx


NORMALIZATION = Reference(normalize, normalize_derivative)
