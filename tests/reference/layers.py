"""Layers: ``value(params, x)`` and ``derivative(params, x, dy) -> (dparams, dx)``."""

from typing import Any

import numpy as np

from tests.reference.pair import Reference


def dense(params: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    w, b = params["w"], params["b"]
    y = np.zeros((*x.shape[:-1], w.shape[1]))
    for n in np.ndindex(x.shape[:-1]):
        for h in range(w.shape[1]):
            y[(*n, h)] = b[h] + sum(x[(*n, d)] * w[d, h] for d in range(w.shape[0]))
    return y


def dense_derivative(params: dict[str, np.ndarray], x: np.ndarray, dy: np.ndarray) -> tuple[Any, np.ndarray]:
    w = params["w"]
    dw, db, dx = np.zeros_like(w), np.zeros(w.shape[1]), np.zeros_like(x)
    for n in np.ndindex(x.shape[:-1]):
        for h in range(w.shape[1]):
            db[h] += dy[(*n, h)]
            for d in range(w.shape[0]):
                dw[d, h] += x[(*n, d)] * dy[(*n, h)]
                dx[(*n, d)] += w[d, h] * dy[(*n, h)]
    return {"w": dw, "b": db}, dx


def flatten(params: Any, x: np.ndarray) -> np.ndarray:
    return np.array([[x[(n, *place)] for place in np.ndindex(x.shape[1:])] for n in range(len(x))])


def flatten_derivative(params: Any, x: np.ndarray, dy: np.ndarray) -> tuple[Any, np.ndarray]:
    dx = np.zeros_like(x)
    for n in range(len(x)):
        for i, place in enumerate(np.ndindex(x.shape[1:])):
            dx[(n, *place)] = dy[n, i]
    return {}, dx


DENSE, FLATTEN = Reference(dense, dense_derivative), Reference(flatten, flatten_derivative)
