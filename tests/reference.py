"""Slow references in NumPy float64, with loops, straight from the formulas; nothing here comes from fnnet's code.

Each is a pair: the value, and the derivative already applied to what comes from above.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fnnet import activations, losses, penalties

Vector = np.ndarray


class Reference(NamedTuple):
    value: Callable[..., Any]
    derivative: Callable[..., Any]


# Activations: value(z, axis), and derivative(z, da, axis), the transposed Jacobian applied to da.


def elementwise(f: Callable[[float], float], df: Callable[[float], float]) -> Reference:
    def value(z: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.array([f(float(v)) for v in z.flat]).reshape(z.shape)

    def derivative(z: np.ndarray, da: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.array([df(float(v)) * float(d) for v, d in zip(z.flat, da.flat, strict=True)]).reshape(z.shape)

    return Reference(value, derivative)


def along_axis(f: Callable[[Vector], Vector], jacobian: Callable[[Vector], np.ndarray]) -> Reference:
    """A function of every vector along an axis, with ``jacobian(z)[i, j] = ∂f_i/∂z_j``."""

    def value(z: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.apply_along_axis(f, axis, z)

    def derivative(z: np.ndarray, da: np.ndarray, axis: int = -1) -> np.ndarray:
        z, da = np.moveaxis(z, axis, -1), np.moveaxis(da, axis, -1)
        dz = np.zeros_like(z)
        for place in np.ndindex(z.shape[:-1]):
            J = jacobian(z[place])
            for j in range(z.shape[-1]):
                dz[(*place, j)] = sum(da[(*place, i)] * J[i, j] for i in range(z.shape[-1]))
        return np.moveaxis(dz, -1, axis)

    return Reference(value, derivative)


def logistic(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def softmax(z: Vector) -> Vector:
    e = [math.exp(v) for v in z]
    return np.array([v / sum(e) for v in e])


def softmax_jacobian(z: Vector) -> np.ndarray:
    a = softmax(z)
    return np.array([[a[i] * ((i == j) - a[j]) for j in range(len(a))] for i in range(len(a))])


def log_softmax(z: Vector) -> Vector:
    return np.array([math.log(a) for a in softmax(z)])


def log_softmax_jacobian(z: Vector) -> np.ndarray:
    a = softmax(z)
    return np.array([[(i == j) - a[j] for j in range(len(a))] for i in range(len(a))])


ACTIVATIONS = {
    activations.identity: elementwise(lambda z: z, lambda z: 1.0),
    activations.sigmoid: elementwise(logistic, lambda z: logistic(z) * (1 - logistic(z))),
    activations.tanh: elementwise(math.tanh, lambda z: 1 / math.cosh(z) ** 2),
    activations.relu: elementwise(lambda z: z if z > 0 else 0.0, lambda z: 1.0 if z > 0 else 0.0),
    activations.softmax: along_axis(softmax, softmax_jacobian),
    activations.log_softmax: along_axis(log_softmax, log_softmax_jacobian),
}


# Losses of one example: value(prediction, y) -> number, derivative(prediction, y) -> vector over the prediction.


def per_output(f: Callable[[float, float], float], df: Callable[[float, float], float]) -> Reference:
    """A sum over the outputs."""
    return Reference(
        lambda p, y: sum(f(p[k], float(y[k])) for k in range(len(p))),
        lambda p, y: np.array([df(p[k], float(y[k])) for k in range(len(p))]),
    )


def class_weights(y: Any, classes: int) -> list[float]:
    """A label as a distribution; a distribution as it is."""
    return [float(c == y) for c in range(classes)] if np.ndim(y) == 0 else list(y)


def per_class(probabilities: Callable[[Vector], Vector], derivative: Callable[[Vector, list[float]], Any]) -> Reference:
    def value(prediction: Vector, y: Any) -> float:
        p = probabilities(prediction)
        return -sum(w * math.log(q) for w, q in zip(class_weights(y, len(p)), p, strict=True) if w != 0)

    return Reference(value, lambda v, y: np.array(derivative(v, class_weights(y, len(v)))))


def softmax_cross_entropy_derivative(z: Vector, y: list[float]) -> list[float]:
    p = softmax(z)
    return [p[c] * sum(y) - y[c] for c in range(len(y))]


LOSSES = {
    losses.squared_error: Reference(
        lambda p, y: sum((p[k] - y[k]) ** 2 for k in range(len(p))) / len(p),
        lambda p, y: np.array([2 * (p[k] - y[k]) / len(p) for k in range(len(p))]),
    ),
    losses.half_squared_error: per_output(lambda p, y: (p - y) ** 2 / 2, lambda p, y: p - y),
    losses.binary_cross_entropy: per_output(
        lambda p, y: -(y * math.log(p) + (1 - y) * math.log(1 - p)), lambda p, y: (p - y) / (p * (1 - p))
    ),
    losses.sigmoid_cross_entropy: per_output(
        lambda z, y: y * math.log(1 + math.exp(-z)) + (1 - y) * math.log(1 + math.exp(z)), lambda z, y: logistic(z) - y
    ),
    losses.cross_entropy: per_class(lambda p: p, lambda p, y: [-y[c] / p[c] for c in range(len(y))]),
    losses.softmax_cross_entropy: per_class(softmax, softmax_cross_entropy_derivative),
}


def over_examples(function: Callable[[Vector, Any], Any], prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """One result for each example: the target of one is ``target[place]``, be it a label or a vector."""
    prediction = np.asarray(prediction, np.float64)
    places = prediction.shape[:-1]
    results = [function(prediction[place], np.asarray(target)[place]) for place in np.ndindex(places)]
    return np.array(results).reshape(*places, *np.shape(results[0]))


# Penalties, on one weight array.


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


# Layers: value(params, x), derivative(params, x, dy) -> (dparams, dx).


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
