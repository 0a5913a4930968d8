"""Activations: ``value(z, **options)``, and ``derivative(z, da, **options)``, which is ``da`` times the Jacobian."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fnnet import activations
from tests.reference.pair import Reference

Vector = np.ndarray


def elementwise(f: Callable[..., float], df: Callable[..., float]) -> Reference:
    """A function of each entry."""

    def value(z: np.ndarray, **options: Any) -> np.ndarray:
        return np.array([f(float(v), **options) for v in z.flat]).reshape(z.shape)

    def derivative(z: np.ndarray, da: np.ndarray, **options: Any) -> np.ndarray:
        dz = [df(float(v), **options) * float(d) for v, d in zip(z.flat, da.flat, strict=True)]
        return np.array(dz).reshape(z.shape)

    return Reference(value, derivative)


def along_axis(f: Callable[..., Vector], jacobian: Callable[..., np.ndarray]) -> Reference:
    """A function of each vector along an axis, with ``jacobian(z)[i, j] = ∂f_i/∂z_j``."""

    def value(z: np.ndarray, axis: int = -1, **options: Any) -> np.ndarray:
        return np.apply_along_axis(f, axis, z, **options)

    def derivative(z: np.ndarray, da: np.ndarray, axis: int = -1, **options: Any) -> np.ndarray:
        z, da = np.moveaxis(z, axis, -1), np.moveaxis(da, axis, -1)
        dz = np.zeros_like(z)
        for at in np.ndindex(z.shape[:-1]):
            J = jacobian(z[at], **options)
            for j in range(z.shape[-1]):
                dz[(*at, j)] = sum(da[(*at, i)] * J[i, j] for i in range(len(J)))
        return np.moveaxis(dz, -1, axis)

    return Reference(value, derivative)


def logistic(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def logistic_slope(z: float) -> float:
    return 1 / (2 + math.exp(z) + math.exp(-z))


def elu(z: float, alpha: float = 1.0) -> float:
    return z if z > 0 else alpha * math.expm1(z)


def elu_slope(z: float, alpha: float = 1.0) -> float:
    return 1.0 if z > 0 else alpha * math.exp(z)


def celu(z: float, alpha: float = 1.0) -> float:
    return z if z > 0 else alpha * math.expm1(z / alpha)


def celu_slope(z: float, alpha: float = 1.0) -> float:
    return 1.0 if z > 0 else math.exp(z / alpha)


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def softplus(z: float) -> float:
    return math.log1p(math.exp(z))


def normal_distribution(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2


def normal_density(z: float) -> float:
    return math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def gelu(z: float, approximate: bool = False) -> float:
    """``½ z (1 + tanh u)`` with ``1 + tanh u = 2 / (1 + exp(−2u))``, which does not cancel."""
    return z * logistic(2 * gelu_inside(z)) if approximate else z * normal_distribution(z)


def gelu_inside(z: float) -> float:
    return math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)


def gelu_slope(z: float, approximate: bool = False) -> float:
    if not approximate:
        return normal_distribution(z) + z * normal_density(z)
    inside_slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)
    return logistic(2 * gelu_inside(z)) + z * logistic_slope(2 * gelu_inside(z)) * 2 * inside_slope


def mish_slope(z: float) -> float:
    return math.tanh(softplus(z)) + z / math.cosh(softplus(z)) ** 2 * logistic(z)


def between(low: float, high: float, z: float, below: float, inside: float, above: float) -> float:
    return below if z <= low else above if z >= high else inside


def glu(z: Vector) -> Vector:
    half = len(z) // 2
    return np.array([z[i] * logistic(z[half + i]) for i in range(half)])


def glu_jacobian(z: Vector) -> np.ndarray:
    half = len(z) // 2
    J = np.zeros((half, len(z)))
    for i in range(half):
        J[i, i] = logistic(z[half + i])
        J[i, half + i] = z[i] * logistic_slope(z[half + i])
    return J


def maxout(z: Vector, pieces: int = 2) -> Vector:
    return np.array([max(z[i : i + pieces]) for i in range(0, len(z), pieces)])


def maxout_jacobian(z: Vector, pieces: int = 2) -> np.ndarray:
    J = np.zeros((len(z) // pieces, len(z)))
    for i in range(len(J)):
        group = list(z[i * pieces : (i + 1) * pieces])
        J[i, i * pieces + group.index(max(group))] = 1
    return J


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
    activations.sigmoid: elementwise(logistic, logistic_slope),
    activations.tanh: elementwise(math.tanh, lambda z: 1 / math.cosh(z) ** 2),
    activations.relu: elementwise(lambda z: z if z > 0 else 0.0, lambda z: 1.0 if z > 0 else 0.0),
    activations.leaky_relu: elementwise(
        lambda z, slope=0.01: z if z > 0 else slope * z, lambda z, slope=0.01: 1.0 if z > 0 else slope
    ),
    activations.elu: elementwise(elu, elu_slope),
    activations.selu: elementwise(
        lambda z: SELU_SCALE * elu(z, SELU_ALPHA), lambda z: SELU_SCALE * elu_slope(z, SELU_ALPHA)
    ),
    activations.celu: elementwise(celu, celu_slope),
    activations.softplus: elementwise(softplus, logistic),
    activations.log_sigmoid: elementwise(lambda z: -softplus(-z), lambda z: logistic(-z)),
    activations.softsign: elementwise(lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2),
    activations.silu: elementwise(lambda z: z * logistic(z), lambda z: logistic(z) + z * logistic_slope(z)),
    activations.gelu: elementwise(gelu, gelu_slope),
    activations.mish: elementwise(lambda z: z * math.tanh(softplus(z)), mish_slope),
    activations.hard_sigmoid: elementwise(
        lambda z: between(-3, 3, z, 0, z / 6 + 1 / 2, 1), lambda z: between(-3, 3, z, 0, 1 / 6, 0)
    ),
    activations.hard_tanh: elementwise(lambda z: between(-1, 1, z, -1, z, 1), lambda z: between(-1, 1, z, 0, 1, 0)),
    activations.hard_silu: elementwise(
        lambda z: z * between(-3, 3, z, 0, (z + 3) / 6, 1), lambda z: between(-3, 3, z, 0, (2 * z + 3) / 6, 1)
    ),
    activations.glu: along_axis(glu, glu_jacobian),
    activations.maxout: along_axis(maxout, maxout_jacobian),
    activations.softmax: along_axis(softmax, softmax_jacobian),
    activations.log_softmax: along_axis(log_softmax, log_softmax_jacobian),
}
