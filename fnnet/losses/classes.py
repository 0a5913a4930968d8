"""Losses over the classes on the last axis.

Shapes ``(N, C)`` with integer labels ``(N,)`` or floating-point distributions ``(N, C)``, ``-> (N,)``. A label stands
for the distribution ``y_c = [c = label]``. The cross-entropies and ``focal`` share these options:

- ``smoothing``: ``y`` becomes ``(1 − s) y + s / C`` (Szegedy et al. 2016, section 7).
- ``class_weights``: a tuple of one factor per class, which multiplies that class's term of the sum.

``fnnet.Cost`` divides by the number of examples, whatever their class weights are. PyTorch and ONNX divide by the sum
of the weights of the labels: this is the weighted mean of the batch ``(x, y, w[y])``, without ``class_weights``. In
``fit``, whose batches have no weights, ``class_weights = w · N / Σ_n w[y_n]`` over its ``N`` labels gives that mean for
the whole set, and for batches of it on average.

All options may be traced numbers: arguments of a compiled function, which can be swept and differentiated.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.special import entr

from fnnet import checks
from fnnet.activations import log_softmax
from fnnet.losses.products import product, times_log
from fnnet.losses.targets import class_targets, real_targets
from fnnet.types import Array, Scalar


def cross_entropy(
    prediction: Array,
    target: Array,
    *,
    smoothing: Scalar = 0.0,
    class_weights: tuple[Scalar, ...] | Array | None = None,
) -> Array:
    """Return the cross-entropy of class probabilities, ``ℓ = −Σ_c y_c log p_c``; for a label, ``−log p_label``.

    The probabilities are taken as they are and not normalized. Use ``softmax_cross_entropy`` for logits.
    """
    p, t = class_targets("losses.cross_entropy", prediction, target, smoothing, class_weights, probabilities=True)
    return -times_log(t, p).sum(-1)


def softmax_cross_entropy(
    prediction: Array,
    target: Array,
    *,
    smoothing: Scalar = 0.0,
    class_weights: tuple[Scalar, ...] | Array | None = None,
) -> Array:
    """Return the cross-entropy of logits, ``ℓ = −Σ_c y_c log p_c``, ``p = softmax(z)``; for a label, ``−log p_label``.

    It equals ``cross_entropy(softmax(z), y)`` but neither rounds to infinity nor overflows.
    """
    z, t = class_targets("losses.softmax_cross_entropy", prediction, target, smoothing, class_weights)
    return -product(t, log_softmax(z)).sum(-1)


def focal(
    prediction: Array,
    target: Array,
    *,
    gamma: Scalar = 2.0,
    smoothing: Scalar = 0.0,
    class_weights: tuple[Scalar, ...] | Array | None = None,
) -> Array:
    """Return the focal loss of logits, ``ℓ = −Σ_c y_c (1 − p_c)^γ log p_c`` with ``p = softmax(z)`` and ``γ ≥ 0``.

    Examples that are already classified well count less; ``γ = 0`` gives ``softmax_cross_entropy``. Source: Lin et al.
    2017, eq. 4 and 5.
    """
    z, t = class_targets("losses.focal", prediction, target, smoothing, class_weights)
    gamma = checked_gamma(gamma, z)
    log_p = log_softmax(z)
    # Where p rounds to 0, q = 1 has the derivative 0: autodiff would find p log p, whose limit is 0, as 0 · ∞.
    q = -jnp.expm1(jnp.where(jnp.exp(log_p) == 0, jnp.finfo(log_p.dtype).min, log_p))
    return -product(t, power(q, gamma) * log_p).sum(-1)


def checked_gamma(gamma: Scalar, like: Array) -> Scalar:
    checks.a_number("losses.focal", "gamma", gamma)
    value = checks.known(gamma)
    checks.require(value is None or value >= 0, f"losses.focal: gamma is {gamma}; expected a number of at least 0")
    return checks.in_dtype(gamma, like.dtype)


def power(q: Array, gamma: Scalar) -> Array:
    """Return ``q^γ`` for ``q ≥ 0``; at ``q = 0`` it is 0 unless ``γ = 0``, like its factor ``log(1 − q)``."""
    zero = q <= 0
    return jnp.where(zero, jnp.where(gamma == 0, 1, 0).astype(q.dtype), jnp.where(zero, 1, q) ** gamma)


def kl_divergence(prediction: Array, target: Array) -> Array:
    """Return ``ℓ = Σ_c y_c log(y_c / p_c)``, the divergence of probabilities ``p`` from a distribution ``y``.

    Both have shape ``(N, C)`` and are not normalized; ``0 log 0 = 0``. Source: Kullback and Leibler 1951, eq. 2.4.
    """
    p, y = real_targets("losses.kl_divergence", prediction, target, probabilities=True)
    return (-entr(y) - times_log(y, p)).sum(-1)  # entr(y) = −y log y, with the derivative ∞ at 0
