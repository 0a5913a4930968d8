"""Losses over the classes on the last axis.

Shapes ``(N, C)`` with integer labels ``(N,)`` or floating-point distributions ``(N, C)``, ``-> (N,)``. A label stands
for the distribution ``y_c = [c = label]``. The cross-entropies and ``focal`` share these options:

- ``smoothing``: ``y`` becomes ``(1 − s) y + s / C`` (Szegedy et al. 2016, section 7).
- ``class_weights``: a tuple of one factor per class, which multiplies that class's term of the sum.
"""

from __future__ import annotations

import jax.numpy as jnp

from fnnet import checks
from fnnet.activations import log_softmax
from fnnet.losses.targets import class_targets, real_targets
from fnnet.types import Array


def cross_entropy(
    prediction: Array,
    target: Array,
    *,
    smoothing: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
) -> Array:
    """Return the cross-entropy of class probabilities, ``ℓ = −Σ_c y_c log p_c``; for a label, ``−log p_label``.

    The probabilities are taken as they are and not normalized. Use ``softmax_cross_entropy`` for logits.
    """
    p, t, valid = class_targets("losses.cross_entropy", prediction, target, smoothing, class_weights)
    # Where its factor is 0, the argument of log is 1: the derivative would be 0 · (1/0), which is NaN.
    return -(valid * (t * jnp.log(jnp.where(t == 0, 1, p)))).sum(-1)


def softmax_cross_entropy(
    prediction: Array,
    target: Array,
    *,
    smoothing: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
) -> Array:
    """Return the cross-entropy of logits, ``ℓ = −Σ_c y_c log p_c``, ``p = softmax(z)``; for a label, ``−log p_label``.

    It equals ``cross_entropy(softmax(z), y)`` but neither rounds to infinity nor overflows.
    """
    z, t, valid = class_targets("losses.softmax_cross_entropy", prediction, target, smoothing, class_weights)
    return -(valid * jnp.where(t == 0, 0, t * log_softmax(z))).sum(-1)


def focal(
    prediction: Array,
    target: Array,
    *,
    gamma: float = 2.0,
    smoothing: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
) -> Array:
    """Return the focal loss of logits, ``ℓ = −Σ_c y_c (1 − p_c)^γ log p_c`` with ``p = softmax(z)`` and ``γ ≥ 0``.

    Examples that are already classified well count less; ``γ = 0`` gives ``softmax_cross_entropy``. Source: Lin et al.
    2017, eq. 4 and 5.
    """
    z, t, valid = class_targets("losses.focal", prediction, target, smoothing, class_weights)
    check_gamma(gamma)
    log_p = log_softmax(z)
    terms = t * power(-jnp.expm1(log_p), gamma) * log_p
    return -(valid * jnp.where(t == 0, 0, terms)).sum(-1)


def check_gamma(gamma: float) -> None:
    checks.require(gamma >= 0, f"losses.focal: gamma is {gamma}; expected a number of at least 0")


def power(q: Array, gamma: float) -> Array:
    """Return ``q^γ`` for ``q ≥ 0``; at ``q = 0`` it is 0 unless ``γ = 0``, like its factor ``log(1 − q)``."""
    zero = q <= 0
    return jnp.where(zero, 1.0 if gamma == 0 else 0.0, jnp.where(zero, 1, q) ** gamma)


def kl_divergence(prediction: Array, target: Array) -> Array:
    """Return ``ℓ = Σ_c y_c log(y_c / p_c)``, the divergence of probabilities ``p`` from a distribution ``y``.

    Both have shape ``(N, C)`` and are not normalized; ``0 log 0 = 0``. Source: Kullback and Leibler 1951, eq. 2.4.
    """
    p, y = real_targets("losses.kl_divergence", prediction, target)
    zero = y == 0
    return (y * (jnp.log(jnp.where(zero, 1, y)) - jnp.log(jnp.where(zero, 1, p)))).sum(-1)
