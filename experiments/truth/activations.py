"""Activation functions and their derivatives at 50 digits, written from the docstrings of ``fnnet.activations``.

At an infinity where the formula has no value, its limit stands; at a kink, the choice that the docstring states.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from experiments.truth.exact import (
    INF,
    Entries,
    Entry,
    Exact,
    Row,
    Sum,
    largest_of,
    mp,
    product,
    times,
    value_of,
    with_terms,
)

Scalar = Callable[[Exact], Entry]

SQRT_2, ERFC = mp.sqrt(2), mp.erfc(mp.sqrt(0.5))
# Klambauer et al. 2017, eq. 14
SELU_ALPHA = -mp.sqrt(2 / mp.pi) / (ERFC * mp.exp(0.5) - 1)
SELU_SCALE = (1 - ERFC * mp.sqrt(mp.e)) * mp.sqrt(
    2
    * mp.pi
    / (2 * mp.erfc(SQRT_2) * mp.e**2 + mp.pi * ERFC**2 * mp.e - 2 * (2 + mp.pi) * ERFC * mp.sqrt(mp.e) + mp.pi + 2)
)


@dataclass(frozen=True)
class Elementwise:
    """``f`` and ``f'``, and ``(f, f')`` at both infinities."""

    value: Scalar
    derivative: Scalar
    below: tuple[float, float]
    above: tuple[float, float]

    def __call__(self, x: Row) -> tuple[Entries, list[Entries]]:
        (z,) = x
        if mp.isinf(z):
            value, derivative = self.above if z > 0 else self.below
            return [mp.mpf(value)], [[mp.mpf(derivative)]]
        return [self.value(z)], [[self.derivative(z)]]


def sigmoid(z: Exact) -> Exact:
    return 1 / (1 + mp.exp(-z))


def elu(alpha: Exact) -> tuple[Scalar, Scalar]:
    return lambda z: z if z > 0 else alpha * mp.expm1(z), lambda z: mp.mpf(1) if z > 0 else alpha * mp.exp(z)


def selu() -> tuple[Scalar, Scalar]:
    value, derivative = elu(SELU_ALPHA)
    return lambda z: SELU_SCALE * value(z), lambda z: SELU_SCALE * derivative(z)


def celu(alpha: Exact) -> tuple[Scalar, Scalar]:
    return (
        lambda z: z if z > 0 else alpha * mp.expm1(z / alpha),
        lambda z: mp.mpf(1) if z > 0 else mp.exp(z / alpha),
    )


def of_exponential(term: Exact, exponent: Exact) -> tuple[Exact, Exact]:
    """Return a term with a factor ``exp(exponent)``, and the one through which the rounding of the exponent enters."""
    return term, term * exponent


def sigmoid_derivative(z: Exact) -> Sum:
    """``a (1 − a)`` with ``a = σ(z)``."""
    return with_terms(mp.sech(z / 2) ** 2 / 4, sigmoid(z))


def tanh_derivative(z: Exact) -> Sum:
    """``1 − tanh²(z)``."""
    return with_terms(mp.sech(z) ** 2, 1)


def silu_derivative(z: Exact) -> Sum:
    """``g + z g (1 − g)`` with ``g = σ(z)``."""
    e = mp.exp(-z)
    return with_terms((1 + e + z * e) / (1 + e) ** 2, sigmoid(z), z * sigmoid(z) * sigmoid(-z))


def gelu_derivative(z: Exact) -> Sum:
    """``Φ(z) + z φ(z)`` with ``φ(z) = exp(−z²/2) / √(2π)``."""
    distribution, density = mp.erfc(-z / SQRT_2) / 2, mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)
    return with_terms(distribution + z * density, distribution, *of_exponential(z * density, z * z / 2))


def gelu_tanh(z: Exact) -> Exact:
    return z * (1 + mp.tanh(gelu_inner(z))) / 2


def gelu_tanh_derivative(z: Exact) -> Sum:
    slope = mp.sqrt(2 / mp.pi) * (1 + 3 * mp.mpf("0.044715") * z**2)
    gate, term = (1 + mp.tanh(gelu_inner(z))) / 2, z / 2 * mp.sech(gelu_inner(z)) ** 2 * slope
    return with_terms(gate + term, *of_exponential(gate, 2 * gelu_inner(z)), *of_exponential(term, 2 * gelu_inner(z)))


def gelu_inner(z: Exact) -> Exact:
    return mp.sqrt(2 / mp.pi) * (z + mp.mpf("0.044715") * z**3)


def mish_derivative(z: Exact) -> Sum:
    """``e^z ω / δ²`` with ``ω = 4 (z + 1) + 4 e^{2z} + e^{3z} + e^z (4 z + 6)``, ``δ = 2 e^z + e^{2z} + 2`` (Misra).

    It is the sum of ``g`` and ``z g'`` with ``g = tanh(log(1 + e^z))``.
    """
    e, g = mp.exp(z), mp.tanh(mp.log1p(mp.exp(z)))
    value = e * (4 * (z + 1) + 4 * e**2 + e**3 + e * (4 * z + 6)) / (2 * e + e**2 + 2) ** 2
    return with_terms(value, g, value - g)


def hard_silu_derivative(z: Exact) -> Entry:
    return with_terms((2 * z + 3) / 6, z / 3, mp.mpf(0.5)) if -3 < z < 3 else step(z >= 3)


def hard_sigmoid(z: Exact) -> Exact:
    return min(max(z / 6 + mp.mpf(0.5), mp.mpf(0)), mp.mpf(1))


def step(condition: bool) -> Exact:
    return mp.mpf(1 if condition else 0)


def elementwise() -> dict[str, Elementwise]:
    """Return the functions by name, as ``fnnet.bind`` shows it where options are bound."""
    inf = float("inf")
    slope = mp.mpf("0.01")
    return {
        "identity": Elementwise(lambda z: z, lambda z: step(True), (-inf, 1), (inf, 1)),
        "sigmoid": Elementwise(sigmoid, sigmoid_derivative, (0, 0), (1, 0)),
        "tanh": Elementwise(mp.tanh, tanh_derivative, (-1, 0), (1, 0)),
        "relu": Elementwise(lambda z: max(z, mp.mpf(0)), lambda z: step(z > 0), (0, 0), (inf, 1)),
        "leaky_relu": Elementwise(
            lambda z: z if z > 0 else slope * z, lambda z: step(True) if z > 0 else slope, (-inf, slope), (inf, 1)
        ),
        "elu": Elementwise(*elu(mp.mpf(1)), (-1, 0), (inf, 1)),
        "selu": Elementwise(*selu(), (-SELU_SCALE * SELU_ALPHA, 0), (inf, SELU_SCALE)),
        "celu": Elementwise(*celu(mp.mpf(1)), (-1, 0), (inf, 1)),
        "celu(alpha=0.5)": Elementwise(*celu(mp.mpf(0.5)), (-0.5, 0), (inf, 1)),
        "softplus": Elementwise(lambda z: mp.log1p(mp.exp(z)), sigmoid, (0, 0), (inf, 1)),
        "log_sigmoid": Elementwise(lambda z: -mp.log1p(mp.exp(-z)), lambda z: sigmoid(-z), (-inf, 1), (0, 0)),
        "softsign": Elementwise(lambda z: z / (1 + abs(z)), lambda z: (1 + abs(z)) ** -2, (-1, 0), (1, 0)),
        "silu": Elementwise(lambda z: z * sigmoid(z), silu_derivative, (0, 0), (inf, 1)),
        "gelu": Elementwise(lambda z: z * mp.erfc(-z / SQRT_2) / 2, gelu_derivative, (0, 0), (inf, 1)),
        "gelu(approximate=True)": Elementwise(gelu_tanh, gelu_tanh_derivative, (0, 0), (inf, 1)),
        "mish": Elementwise(lambda z: z * mp.tanh(mp.log1p(mp.exp(z))), mish_derivative, (0, 0), (inf, 1)),
        "hard_sigmoid": Elementwise(hard_sigmoid, lambda z: step(-3 < z < 3) / 6, (0, 0), (1, 0)),
        "hard_tanh": Elementwise(
            lambda z: min(max(z, mp.mpf(-1)), mp.mpf(1)), lambda z: step(-1 < z < 1), (-1, 0), (1, 0)
        ),
        "hard_silu": Elementwise(lambda z: z * hard_sigmoid(z), hard_silu_derivative, (0, 0), (inf, 1)),
    }


def probabilities(x: Row) -> Row:
    """Return ``softmax(x)``; a logit of ``∞`` has the probability 1."""
    e = [step(z == INF) for z in x] if INF in x else [mp.exp(z) for z in x]
    total = mp.fsum(e)
    return [term / total for term in e]


def others(x: Row) -> Row:
    """Return ``1 − softmax(x)`` with all digits where a probability is near 1."""
    p = probabilities(x)
    return [mp.fsum(p[:i] + p[i + 1 :]) for i in range(len(p))]


def log_probabilities(x: Row) -> Row:
    return [mp.log(p) if p < 0.5 else mp.log1p(-q) for p, q in zip(probabilities(x), others(x), strict=True)]


def log_softmax_values(x: Row) -> Entries:
    """``z_i − m − log Σ_j exp(z_j − m)`` with the maximum ``m``; the sum has a term of 1."""
    largest = max(x)
    return [
        log_p if mp.isinf(log_p) or largest == INF else with_terms(log_p, z - largest, log_p - (z - largest), 1)
        for z, log_p in zip(x, log_probabilities(x), strict=True)
    ]


def softmax_values(x: Row) -> Entries:
    """``exp(z_i − m) / Σ_j exp(z_j − m)`` with the maximum ``m``."""
    pairs = zip(x, probabilities(x), strict=True)
    return [with_terms(p, *of_exponential(p, z - max(x))) if mp.isfinite(z - max(x)) else p for z, p in pairs]


def softmax(x: Row) -> tuple[Entries, list[Entries]]:
    """With the derivatives ``p_i [i = j] − p_i p_j``."""
    p, q = softmax_values(x), others(x)
    indices = range(len(x))
    return p, [
        [
            with_terms(value_of(p[i]) * q[i], largest_of(p[i])) if i == j else product(times(-1, p[i]), p[j])
            for j in indices
        ]
        for i in indices
    ]


def log_softmax(x: Row) -> tuple[Entries, list[Entries]]:
    """With the derivatives ``[i = j] − p_j``."""
    p, q = softmax_values(x), others(x)
    indices = range(len(x))
    return log_softmax_values(x), [
        [with_terms(q[i], 1) if i == j else times(-1, p[j]) for j in indices] for i in indices
    ]


def glu(x: Row) -> tuple[Entries, list[Entries]]:
    u, v = x
    gate, slope = (step(v > 0), mp.mpf(0)) if mp.isinf(v) else (sigmoid(v), mp.sech(v / 2) ** 2 / 4)
    return [u * gate], [[gate, u * slope]]


def maxout(x: Row) -> tuple[Entries, list[Entries]]:
    first = x.index(max(x))
    return [x[first]], [[step(i == first) for i in range(len(x))]]
