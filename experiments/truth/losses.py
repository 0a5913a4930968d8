"""Losses and their gradients at 50 digits, written from the docstrings of ``fnnet.losses``.

Each takes an example's prediction and target, and gives ``ℓ`` and ``∂ℓ/∂prediction``. ``0 · ∞`` is 0 where the factor 0
is a target's.
"""

from __future__ import annotations

from collections.abc import Callable

from experiments.truth.activations import log_probabilities, others, probabilities, sigmoid
from experiments.truth.exact import INF, Exact, Matrix, Row, Truth, mp

Term = Callable[[Exact, Exact], tuple[Exact, Exact]]  # (prediction, target) -> a term of the loss and its derivative


def total(term: Term, mean: bool = False) -> Truth:
    """The sum or the mean over the outputs."""

    def loss(x: Row, target: Row) -> tuple[Row, Matrix]:
        share = mp.mpf(1) / len(x) if mean else mp.mpf(1)
        terms = [term(a, y) for a, y in zip(x, target, strict=True)]
        return [share * mp.fsum(value for value, _ in terms)], [[share * slope for _, slope in terms]]

    return loss


def square(a: Exact, y: Exact) -> tuple[Exact, Exact]:
    return (a - y) ** 2, 2 * (a - y)


def half_square(a: Exact, y: Exact) -> tuple[Exact, Exact]:
    return (a - y) ** 2 / 2, a - y


def absolute(a: Exact, y: Exact) -> tuple[Exact, Exact]:
    return abs(a - y), mp.sign(a - y)


def huber(width: float) -> Term:
    delta = mp.mpf(width)

    def term(a: Exact, y: Exact) -> tuple[Exact, Exact]:
        d = a - y
        inside = abs(d) <= delta
        return (d**2 / 2, d) if inside else (delta * (abs(d) - delta / 2), delta * mp.sign(d))

    return term


def log_cosh(a: Exact, y: Exact) -> tuple[Exact, Exact]:
    d = abs(a - y)
    return d + mp.log1p(mp.expm1(-2 * d) / 2), mp.tanh(a - y)


def cosine(x: Row, target: Row) -> tuple[Row, Matrix]:
    """``∂ℓ/∂ŷ_k = (cos θ · u_k − v_k) / ‖ŷ‖`` with the unit vectors ``u`` of ``ŷ`` and ``v`` of ``y``."""
    size, other = (mp.sqrt(mp.fsum(a * a for a in vector)) for vector in (x, target))
    if size == 0 or other == 0:
        return [mp.mpf(1)], [[mp.mpf(0)] * len(x)]
    cos = mp.fsum(a * y for a, y in zip(x, target, strict=True)) / (size * other)
    return [1 - cos], [[(cos * a / size - y / other) / size for a, y in zip(x, target, strict=True)]]


def binary_cross_entropy(p: Exact, y: Exact) -> tuple[Exact, Exact]:
    """``∂ℓ/∂p = (p − y) / (p (1 − p))``, from above 0 and below 1."""
    value = -(times(y, mp.log(p)) + times(1 - y, mp.log1p(-p) if p < 1 else -INF))
    if p in (0, 1):
        return value, (INF if p else -INF) if p != y else 1 - 2 * y
    return value, (p - y) / (p * (1 - p))


def sigmoid_cross_entropy(z: Exact, y: Exact) -> tuple[Exact, Exact]:
    return times(y, softplus(-z)) + times(1 - y, softplus(z)), (1 - y) * sigmoid(z) - y * sigmoid(-z)


def softplus(z: Exact) -> Exact:
    return mp.log1p(mp.exp(z)) if z < INF else INF


def hinge(a: Exact, y: Exact) -> tuple[Exact, Exact]:
    return max(mp.mpf(0), 1 - y * a), -y if y * a < 1 else mp.mpf(0)


def squared_hinge(a: Exact, y: Exact) -> tuple[Exact, Exact]:
    shortfall = max(mp.mpf(0), 1 - y * a)
    return shortfall**2, -2 * y * shortfall


def poisson(z: Exact, y: Exact) -> tuple[Exact, Exact]:
    return mp.exp(z) - times(y, z) + mp.loggamma(y + 1), mp.exp(z) - y


def gaussian(x: Row, target: Row) -> tuple[Row, Matrix]:
    """With ``w = (y − μ)² exp(−s)``: ``∂ℓ/∂μ = (μ − y) exp(−s)`` and ``∂ℓ/∂s = ½ (1 − w)``."""
    k = len(target)
    means, log_variances = x[:k], x[k:]
    parts = list(zip(means, log_variances, target, strict=True))
    scores = [times((y - m) ** 2, mp.exp(-s)) for m, s, y in parts]
    value = mp.fsum((s + w + mp.log(2 * mp.pi)) / 2 for (_, s, _), w in zip(parts, scores, strict=True))
    return [value], [[times(m - y, mp.exp(-s)) for m, s, y in parts] + [(1 - w) / 2 for w in scores]]


def weights(target: Row | Exact, classes: int, smoothing: float = 0.0, class_weights: Row | None = None) -> Row:
    """``t_c = w_c ((1 − s) y_c + s / C)``, where a label's ``y_c`` is ``[c = label]``."""
    y = target if isinstance(target, list) else [mp.mpf(int(c == target)) for c in range(classes)]
    w = class_weights or [1] * classes
    s = mp.mpf(smoothing)
    return [factor * ((1 - s) * a + s / classes) for a, factor in zip(y, w, strict=True)]


def cross_entropy(smoothing: float = 0.0, class_weights: Row | None = None) -> Truth:
    """``ℓ = −Σ t log p``, ``∂ℓ/∂p = −t / p``."""

    def loss(x: Row, target: Row | Exact) -> tuple[Row, Matrix]:
        t = weights(target, len(x), smoothing, class_weights)
        value = -mp.fsum(times(a, mp.log(p)) for a, p in zip(t, x, strict=True))
        return [value], [[ratio(-a, p) for a, p in zip(t, x, strict=True)]]

    return loss


def kl_divergence(x: Row, target: Row) -> tuple[Row, Matrix]:
    value = mp.fsum(y * (mp.log(y) - mp.log(p)) if y else 0 for p, y in zip(x, target, strict=True))
    return [value], [[ratio(-y, p) for p, y in zip(x, target, strict=True)]]


def softmax_cross_entropy(smoothing: float = 0.0, class_weights: Row | None = None) -> Truth:
    """``ℓ = −Σ t log p``, ``∂ℓ/∂z_c = p_c Σ_j t_j − t_c = p_c Σ_{j ≠ c} t_j − t_c (1 − p_c)``."""

    def loss(x: Row, target: Row | Exact) -> tuple[Row, Matrix]:
        t, p, q = weights(target, len(x), smoothing, class_weights), probabilities(x), others(x)
        value = -mp.fsum(times(a, b) for a, b in zip(t, log_probabilities(x), strict=True))
        return [value], [[p[c] * mp.fsum(t[:c] + t[c + 1 :]) - t[c] * q[c] for c in range(len(x))]]

    return loss


def focal(gamma: float, smoothing: float = 0.0, class_weights: Row | None = None) -> Truth:
    """With ``g_c = p_c ∂ℓ/∂p_c = t_c (γ q_c^{γ−1} p_c log p_c − q_c^γ)``: ``∂ℓ/∂z_c = g_c q_c − p_c Σ_{j ≠ c} g_j``."""

    def loss(x: Row, target: Row | Exact) -> tuple[Row, Matrix]:
        t, p, q = weights(target, len(x), smoothing, class_weights), probabilities(x), others(x)
        logs = log_probabilities(x)
        value = -mp.fsum(times(a * d**gamma, b) if d or not gamma else 0 for a, d, b in zip(t, q, logs, strict=True))
        g = [a * slope(b, c, d) for a, b, c, d in zip(t, p, logs, q, strict=True)]
        return [value], [[g[c] * q[c] - p[c] * mp.fsum(g[:c] + g[c + 1 :]) for c in range(len(x))]]

    def slope(p: Exact, log_p: Exact, q: Exact) -> Exact:
        if q == 0:
            return mp.mpf(-1 if gamma == 0 else 0)  # γ q^{γ−1} log(1 − q) − q^γ as q falls to 0
        return (gamma * q ** (gamma - 1) * times(p, log_p) if gamma else 0) - q**gamma

    return loss


def times(factor: Exact, x: Exact) -> Exact:
    return mp.mpf(0) if factor == 0 else factor * x


def ratio(a: Exact, b: Exact) -> Exact:
    """``a / b``, as ``b`` falls to 0 where it is 0."""
    return mp.mpf(0) if a == 0 else a / b if b else mp.sign(a) * INF
