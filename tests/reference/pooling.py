"""Pooling and upsampling: ``value(x, ...)`` and ``derivative(x, dy, ...) -> dx``, one number at a time."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.reference.pair import Reference

Place = tuple[int, ...]


def seen_by_windows(length: int, size: int, stride: int, padding: Any) -> list[list[int]]:
    """For every window along an axis, the positions that it sees; those in the padding are negative or too large."""
    if padding == "SAME":
        outputs = -(-length // stride)
        total = max(stride * (outputs - 1) + size - length, 0)
        low, high = total // 2, total - total // 2
    else:
        low, high = (0, 0) if padding == "VALID" else padding
    windows, start = [], -low
    while start + size <= length + high:
        windows.append(list(range(start, start + size)))
        start += stride
    return windows


def windows_of(x: np.ndarray, window: Any, stride: Any, padding: Any) -> Iterator[tuple[Place, list[Place], int]]:
    """For every output: its place, the places of ``x`` in its window in row-major order, and the window's size."""
    spatial = x.shape[1:-1]
    sizes = window if isinstance(window, tuple) else (window,) * len(spatial)
    strides = stride if isinstance(stride, tuple) else (stride,) * len(spatial)
    axes = [
        seen_by_windows(n, size, size if step is None else step, pad)
        for n, size, step, pad in zip(
            spatial, sizes, strides, (padding,) * len(spatial) if isinstance(padding, str) else padding, strict=True
        )
    ]
    for place in itertools.product(*(range(len(axis)) for axis in axes)):
        every = list(itertools.product(*(axis[o] for axis, o in zip(axes, place, strict=True))))
        inside = [p for p in every if all(0 <= i < n for i, n in zip(p, spatial, strict=True))]
        for n in range(x.shape[0]):
            for c in range(x.shape[-1]):
                yield (n, *place, c), [(n, *p, c) for p in inside], len(every)


def collected(x: np.ndarray, outputs: dict[Place, float]) -> np.ndarray:
    y = np.zeros([1 + max(place[axis] for place in outputs) for axis in range(x.ndim)])
    for place, value in outputs.items():
        y[place] = value
    return y


def max_pool(x: np.ndarray, window: Any, stride: Any = None, padding: Any = "VALID") -> np.ndarray:
    outputs = {place: max(x[p] for p in seen) for place, seen, _ in windows_of(x, window, stride, padding)}
    return collected(x, outputs)


def max_pool_derivative(
    x: np.ndarray, dy: np.ndarray, window: Any, stride: Any = None, padding: Any = "VALID"
) -> np.ndarray:
    dx = np.zeros_like(x)
    for place, seen, _ in windows_of(x, window, stride, padding):
        largest = max(x[p] for p in seen)
        first = next(p for p in seen if x[p] == largest)
        dx[first] += dy[place]
    return dx


def avg_pool(
    x: np.ndarray, window: Any, stride: Any = None, padding: Any = "VALID", count_padding: bool = False
) -> np.ndarray:
    outputs = {
        place: sum(x[p] for p in seen) / (size if count_padding else len(seen))
        for place, seen, size in windows_of(x, window, stride, padding)
    }
    return collected(x, outputs)


def avg_pool_derivative(
    x: np.ndarray, dy: np.ndarray, window: Any, stride: Any = None, padding: Any = "VALID", count_padding: bool = False
) -> np.ndarray:
    dx = np.zeros_like(x)
    for place, seen, size in windows_of(x, window, stride, padding):
        for p in seen:
            dx[p] += dy[place] / (size if count_padding else len(seen))
    return dx


def upsample(x: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """Of its nearest neighbour, each entry of the larger image."""
    y = np.zeros((x.shape[0], *(f * n for f, n in zip(factors, x.shape[1:-1], strict=True)), x.shape[-1]))
    for place in np.ndindex(y.shape):
        n, *spatial, c = place
        y[place] = x[(n, *(i // f for i, f in zip(spatial, factors, strict=True)), c)]
    return y


def upsample_derivative(x: np.ndarray, dy: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    dx = np.zeros_like(x)
    for place in np.ndindex(dy.shape):
        n, *spatial, c = place
        dx[(n, *(i // f for i, f in zip(spatial, factors, strict=True)), c)] += dy[place]
    return dx


MAX_POOL = Reference(max_pool, max_pool_derivative)
AVG_POOL = Reference(avg_pool, avg_pool_derivative)
UPSAMPLE = Reference(upsample, upsample_derivative)
