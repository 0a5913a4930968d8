"""Losses and their gradients at 50 digits, written from the docstrings of ``fnnet.losses``.

Each function takes the prediction and the target of an example, and returns ``ℓ`` and ``∂ℓ/∂prediction``, with the
largest term where a formula is a sum. ``0 · ∞`` is 0 where the factor 0 comes from a target.
"""

from __future__ import annotations

from collections.abc import Callable

from experiments.truth.activations import log_softmax_values, others, probabilities, sigmoid, softmax_values
from experiments.truth.exact import (
    INF,
    Entries,
    Entry,
    Exact,
    Row,
    Sum,
    Truth,
    largest_of,
    mp,
    product,
    times,
    value_of,
    with_terms,
)

Loss = tuple[Entries, list[Entries]]
Term = Callable[[Exact, Exact], tuple[Entry, Entry]]  # (prediction, target) -> a term of the loss and its derivative


def total(term: Term, mean: bool = False) -> Truth:
    """Return the loss that is the sum, or the mean, of a term over the outputs."""

    def loss(x: Row, target: Row) -> Loss:
        factor = mp.mpf(1) / len(x) if mean else mp.mpf(1)
        terms = [term(a, y) for a, y in zip(x, target, strict=True)]
        return [times(factor, added([value for value, _ in terms]))], [[times(factor, slope) for _, slope in terms]]

    return loss


def added(entries: Entries) -> Sum:
    return Sum(mp.fsum(map(value_of, entries)), max(map(largest_of, entries)))


def square(a: Exact, y: Exact) -> tuple[Entry, Entry]:
    return (a - y) ** 2, 2 * (a - y)


def half_square(a: Exact, y: Exact) -> tuple[Entry, Entry]:
    return (a - y) ** 2 / 2, a - y


def absolute(a: Exact, y: Exact) -> tuple[Entry, Entry]:
    return abs(a - y), mp.sign(a - y)


def huber(width: float) -> Term:
    delta = mp.mpf(width)

    def term(a: Exact, y: Exact) -> tuple[Entry, Entry]:
        d = a - y
        inside = abs(d) <= delta
        return (d**2 / 2, d) if inside else (delta * (abs(d) - delta / 2), delta * mp.sign(d))

    return term


def log_cosh(a: Exact, y: Exact) -> tuple[Entry, Entry]:
    d = abs(a - y)
    return d + mp.log1p(mp.expm1(-2 * d) / 2), mp.tanh(a - y)


def cosine(x: Row, target: Row) -> Loss:
    """With ``u = ŷ/‖ŷ‖``, ``v = y/‖y‖``: ``ℓ = 1 − u·v`` and ``∂ℓ/∂ŷ_k = ((u·v) u_k − v_k) / ‖ŷ‖``.

    The terms are those of the equal ``(u_k − v_k − (u·(u − v)) u_k) / ‖ŷ‖``.
    """
    size, other = (mp.sqrt(mp.fsum(a * a for a in vector)) for vector in (x, target))
    if size == 0 or other == 0:
        return [mp.mpf(1)], [[mp.mpf(0)] * len(x)]
    u, v = [a / size for a in x], [y / other for y in target]
    cos = mp.fsum(a * b for a, b in zip(u, v, strict=True))
    across = max(abs(a * (a - b)) for a, b in zip(u, v, strict=True))  # the largest term of u·(u − v)
    slopes = [
        with_terms((cos * a - b) / size, a / size, b / size, across * a / size) for a, b in zip(u, v, strict=True)
    ]
    return [with_terms(1 - cos, 1)], [slopes]


def binary_cross_entropy(p: Exact, y: Exact) -> tuple[Entry, Entry]:
    """``∂ℓ/∂p = (1 − y) / (1 − p) − y / p``, from above 0 and below 1."""
    value = -(times(y, mp.log(p)) + times(1 - y, mp.log1p(-p) if p < 1 else -INF))
    yes, no = ratio(y, p), ratio(1 - y, 1 - p)
    return value, no - yes if p in (0, 1) else with_terms((p - y) / (p * (1 - p)), yes, no)


def sigmoid_cross_entropy(z: Exact, y: Exact) -> tuple[Entry, Entry]:
    """``∂ℓ/∂z = σ(z) − y``."""
    slope = (1 - y) * sigmoid(z) - y * sigmoid(-z)
    return times(y, softplus(-z)) + times(1 - y, softplus(z)), with_terms(slope, sigmoid(z), y)


def softplus(z: Exact) -> Exact:
    return mp.log1p(mp.exp(z)) if z < INF else INF


def hinge(a: Exact, y: Exact) -> tuple[Entry, Entry]:
    return max(mp.mpf(0), 1 - y * a), -y if y * a < 1 else mp.mpf(0)


def squared_hinge(a: Exact, y: Exact) -> tuple[Entry, Entry]:
    shortfall = max(mp.mpf(0), 1 - y * a)
    return shortfall**2, -2 * y * shortfall


def poisson(z: Exact, y: Exact) -> tuple[Entry, Entry]:
    rate, log_factorial = mp.exp(z), mp.loggamma(y + 1)
    if mp.isinf(rate):
        return INF, INF
    linear = times(y, z)
    return with_terms(rate - linear + log_factorial, rate, linear, log_factorial), with_terms(rate - y, rate, y)


def gaussian(x: Row, target: Row) -> Loss:
    """With ``w = (y − μ)² exp(−s)``: ``∂ℓ/∂μ = (μ − y) exp(−s)`` and ``∂ℓ/∂s = ½ (1 − w)``."""
    k = len(target)
    outputs = list(zip(x[:k], x[k:], target, strict=True))
    scores = [times((y - m) ** 2, mp.exp(-s)) for m, s, y in outputs]
    terms = [term / 2 for (_, s, _), w in zip(outputs, scores, strict=True) for term in (s, w, mp.log(2 * mp.pi))]
    value = INF if INF in scores else with_terms(mp.fsum(terms), *terms)
    slopes = [times(m - y, mp.exp(-s)) for m, s, y in outputs]
    return [value], [slopes + [with_terms((1 - w) / 2, mp.mpf(0.5), w / 2) for w in scores]]


def factors(target: Row | Exact, classes: int, smoothing: float = 0.0, class_weights: Row | None = None) -> Row:
    """Return ``t_c = w_c ((1 − s) y_c + s / C)``, where a label's ``y_c`` is ``[c = label]``."""
    y = target if isinstance(target, list) else [mp.mpf(int(c == target)) for c in range(classes)]
    w = class_weights or [1] * classes
    s = mp.mpf(smoothing)
    return [factor * ((1 - s) * a + s / classes) for a, factor in zip(y, w, strict=True)]


def cross_entropy(smoothing: float = 0.0, class_weights: Row | None = None) -> Truth:
    """``ℓ = −Σ t log p``, ``∂ℓ/∂p = −t / p``."""

    def loss(x: Row, target: Row | Exact) -> Loss:
        t = factors(target, len(x), smoothing, class_weights)
        value = -mp.fsum(times(a, mp.log(p)) for a, p in zip(t, x, strict=True))
        return [value], [[ratio(-a, p) for a, p in zip(t, x, strict=True)]]

    return loss


def kl_divergence(x: Row, target: Row) -> Loss:
    """``ℓ = Σ y log y − y log p``, ``∂ℓ/∂p = −y / p``."""
    terms = [times(y, mp.log(a)) for p, y in zip(x, target, strict=True) for a in (y, p)]
    value = mp.fsum(terms[::2]) - mp.fsum(terms[1::2])
    return [with_terms(value, *terms)], [[ratio(-y, p) for p, y in zip(x, target, strict=True)]]


def softmax_cross_entropy(smoothing: float = 0.0, class_weights: Row | None = None) -> Truth:
    """``ℓ = −Σ t log p``, ``∂ℓ/∂z_c = p_c Σ_j t_j − t_c``, computed as ``p_c Σ_{j ≠ c} t_j − t_c (1 − p_c)``."""

    def loss(x: Row, target: Row | Exact) -> Loss:
        t, p, q = factors(target, len(x), smoothing, class_weights), probabilities(x), others(x)
        largest = [largest_of(times(mp.fsum(t), entry)) for entry in softmax_values(x)]
        slopes = [p[c] * mp.fsum(t[:c] + t[c + 1 :]) - t[c] * q[c] for c in range(len(x))]
        value = added([times(-a, b) for a, b in zip(t, log_softmax_values(x), strict=True)])
        return [value], [[with_terms(slope, t[c], largest[c]) for c, slope in enumerate(slopes)]]

    return loss


def focal(gamma: float, smoothing: float = 0.0, class_weights: Row | None = None) -> Truth:
    """With ``g_c = p_c ∂ℓ/∂p_c = t_c (γ q_c^{γ−1} p_c log p_c − q_c^γ)``: ``∂ℓ/∂z_c = g_c − p_c Σ_j g_j``.

    The difference is computed as ``g_c q_c − p_c Σ_{j ≠ c} g_j``. ``q = 1 − p`` is a difference too: the rounding of
    its term 1 enters ``q^γ`` with the factor ``γ q^{γ−1}``.
    """

    def loss(x: Row, target: Row | Exact) -> Loss:
        t, p, q = factors(target, len(x), smoothing, class_weights), probabilities(x), others(x)
        logs = log_softmax_values(x)
        terms = [
            product(times(-a, b), power(d, gamma)) for a, d, b in zip(t, q, logs, strict=True) if a and (d or not gamma)
        ]
        g = [times(a, slope(b, c, d)) for a, b, c, d in zip(t, p, logs, q, strict=True)]
        values, largest = list(map(value_of, g)), list(map(largest_of, g))
        shares = [largest_of(times(max(largest), entry)) for entry in softmax_values(x)]
        slopes = [values[c] * q[c] - p[c] * mp.fsum(values[:c] + values[c + 1 :]) for c in range(len(x))]
        return [added(terms) if terms else mp.mpf(0)], [
            [with_terms(value, largest[c], shares[c]) for c, value in enumerate(slopes)]
        ]

    def slope(p: Exact, log_p: Entry, q: Exact) -> Entry:
        if q == 0:
            return mp.mpf(-1 if gamma == 0 else 0)  # γ q^{γ−1} log(1 − q) − q^γ as q falls to 0
        one = power(q, gamma)
        if not gamma:
            return times(-1, one)
        other = product(times(gamma * p, log_p), power(q, gamma - 1))
        return Sum(other.value - one.value, max(other.largest, one.largest))

    return loss


def power(q: Exact, exponent: float) -> Sum:
    """Return ``q^exponent`` for ``q = 1 − p > 0``, or for ``q = 0`` with the exponent 0."""
    return Sum(mp.mpf(1), mp.mpf(1)) if not exponent else with_terms(q**exponent, exponent * q ** (exponent - 1))


def ratio(a: Exact, b: Exact) -> Exact:
    """Return ``a / b``; where ``b`` is 0, the limit as ``b`` falls to 0."""
    return mp.mpf(0) if a == 0 else a / b if b else mp.sign(a) * INF
