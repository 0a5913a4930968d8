"""Losses of one example: ``value(prediction, y) -> number`` and ``derivative(prediction, y) -> vector``."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fnnet import losses
from fnnet.binding import unbind
from tests.reference.activations import Vector, logistic, softmax, softmax_jacobian
from tests.reference.pair import Reference
from tests.reference.penalties import sign


def per_output(f: Callable[..., float], df: Callable[..., float], *, mean: bool = False) -> Reference:
    """A sum over the outputs, or their mean."""

    def factor(prediction: Vector) -> float:
        return 1 / len(prediction) if mean else 1.0

    def value(prediction: Vector, y: Vector, **options: Any) -> float:
        return factor(prediction) * sum(f(p, float(t), **options) for p, t in zip(prediction, y, strict=True))

    def derivative(prediction: Vector, y: Vector, **options: Any) -> Vector:
        return factor(prediction) * np.array([df(p, float(t), **options) for p, t in zip(prediction, y, strict=True)])

    return Reference(value, derivative)


def huber(p: float, y: float, delta: float = 1.0) -> float:
    d = abs(p - y)
    return d**2 / 2 if d <= delta else delta * (d - delta / 2)


def huber_slope(p: float, y: float, delta: float = 1.0) -> float:
    return p - y if abs(p - y) <= delta else delta * sign(p - y)


def dot(u: Vector, v: Vector) -> float:
    return sum(a * b for a, b in zip(u, v, strict=True))


def cosine(p: Vector, y: Vector) -> float:
    return 1 - dot(p, y) / math.sqrt(dot(p, p) * dot(y, y))


def cosine_derivative(p: Vector, y: Vector) -> Vector:
    """Of the quotient ``−p · y / (‖p‖ ‖y‖)``."""
    length, other = math.sqrt(dot(p, p)), math.sqrt(dot(y, y))
    return np.array([-y[k] / (length * other) + dot(p, y) * p[k] / (length**3 * other) for k in range(len(p))])


def terms(y: Any, classes: int, smoothing: float, weights: tuple[float, ...] | None) -> list[float]:
    """The factor of each class's term: a label as a distribution, a distribution as it is, with the options."""
    t = [float(c == y) for c in range(classes)] if np.ndim(y) == 0 else list(y)
    t = [(1 - smoothing) * s + smoothing / classes for s in t]
    return t if weights is None else [w * s for w, s in zip(weights, t, strict=True)]


def per_class(
    probabilities: Callable[[Vector], Vector],
    term: Callable[..., float],
    term_slope: Callable[..., float],
    jacobian: Callable[[Vector], np.ndarray],
) -> Reference:
    """``−Σ_c t_c term(p_c)``, with the chain rule through the probabilities written out."""

    def weighted(y: Any, classes: int, options: dict[str, Any]) -> tuple[list[float], dict[str, Any]]:
        rest = dict(options)
        smoothing, weights = rest.pop("smoothing", 0.0), rest.pop("class_weights", None)
        return terms(y, classes, smoothing, weights), rest

    def value(prediction: Vector, y: Any, **options: Any) -> float:
        p = probabilities(prediction)
        t, rest = weighted(y, len(p), options)
        return -sum(t[c] * term(p[c], **rest) for c in range(len(p)) if t[c] != 0)

    def derivative(prediction: Vector, y: Any, **options: Any) -> Vector:
        p, J = probabilities(prediction), jacobian(prediction)
        t, rest = weighted(y, len(p), options)
        slopes = [-t[c] * term_slope(p[c], **rest) if t[c] != 0 else 0.0 for c in range(len(p))]
        return np.array([sum(slopes[c] * J[c, j] for c in range(len(p))) for j in range(len(p))])

    return Reference(value, derivative)


def focal_term(p: float, gamma: float = 2.0) -> float:
    return (1 - p) ** gamma * math.log(p)


def focal_slope(p: float, gamma: float = 2.0) -> float:
    return (1 - p) ** gamma / p - gamma * (1 - p) ** (gamma - 1) * math.log(p)


def gaussian(prediction: Vector, y: Vector) -> float:
    K = len(y)
    mean, log_variance = prediction[:K], prediction[K:]
    exponents = ((y[k] - mean[k]) ** 2 / math.exp(log_variance[k]) for k in range(K))
    return sum(log_variance[k] / 2 + e / 2 + math.log(2 * math.pi) / 2 for k, e in enumerate(exponents))


def gaussian_derivative(prediction: Vector, y: Vector) -> Vector:
    K = len(y)
    mean, log_variance = prediction[:K], prediction[K:]
    by_mean = [(mean[k] - y[k]) / math.exp(log_variance[k]) for k in range(K)]
    by_log_variance = [1 / 2 - (y[k] - mean[k]) ** 2 / math.exp(log_variance[k]) / 2 for k in range(K)]
    return np.array([*by_mean, *by_log_variance])


def log_factorial(y: float) -> float:
    return sum(math.log(k) for k in range(1, int(y) + 1))


def divergence(p: float, y: float) -> float:
    return y * math.log(y / p) if y > 0 else 0.0


LOSSES = {
    losses.squared_error: per_output(lambda p, y: (p - y) ** 2, lambda p, y: 2 * (p - y), mean=True),
    losses.half_squared_error: per_output(lambda p, y: (p - y) ** 2 / 2, lambda p, y: p - y, mean=True),
    losses.absolute_error: per_output(lambda p, y: abs(p - y), lambda p, y: sign(p - y), mean=True),
    losses.huber: per_output(huber, huber_slope, mean=True),
    losses.log_cosh: per_output(
        lambda p, y: math.log(math.cosh(p - y)), lambda p, y: math.sinh(p - y) / math.cosh(p - y), mean=True
    ),
    losses.cosine: Reference(cosine, cosine_derivative),
    losses.binary_cross_entropy: per_output(
        lambda p, y: -(y * math.log(p) + (1 - y) * math.log(1 - p)), lambda p, y: (p - y) / (p * (1 - p))
    ),
    losses.sigmoid_cross_entropy: per_output(
        lambda z, y: y * math.log(1 + math.exp(-z)) + (1 - y) * math.log(1 + math.exp(z)), lambda z, y: logistic(z) - y
    ),
    losses.hinge: per_output(lambda p, y: max(0.0, 1 - y * p), lambda p, y: -y if y * p < 1 else 0.0),
    losses.squared_hinge: per_output(lambda p, y: max(0.0, 1 - y * p) ** 2, lambda p, y: -2 * y * max(0.0, 1 - y * p)),
    losses.cross_entropy: per_class(lambda p: p, math.log, lambda p: 1 / p, lambda p: np.eye(len(p))),
    losses.softmax_cross_entropy: per_class(softmax, math.log, lambda p: 1 / p, softmax_jacobian),
    losses.focal: per_class(softmax, focal_term, focal_slope, softmax_jacobian),
    losses.kl_divergence: per_output(divergence, lambda p, y: -y / p),
    losses.poisson_negative_log_likelihood: per_output(
        lambda z, y: math.exp(z) - y * z + log_factorial(y), lambda z, y: math.exp(z) - y
    ),
    losses.gaussian_negative_log_likelihood: Reference(gaussian, gaussian_derivative),
}


def loss_reference(loss: Callable[..., Any]) -> Reference:
    """The reference of a loss, with the options that are bound to it."""
    function, options = unbind(loss)
    value, derivative = LOSSES[function]
    return Reference(partial(value, **options), partial(derivative, **options))


def over_examples(function: Callable[[Vector, Any], Any], prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return one result for each example: ``target[at]``, a label or a vector, belongs to ``prediction[at]``."""
    prediction = np.asarray(prediction, np.float64)
    examples = prediction.shape[:-1]
    results = [function(prediction[at], np.asarray(target)[at]) for at in np.ndindex(examples)]
    return np.array(results).reshape(*examples, *np.shape(results[0]))
