"""Losses over classes on the last axis.

Shapes ``(N, C)`` with integer labels ``(N,)`` or floating-point distributions ``(N, C)``, ``-> (N,)``. For a label,
``y_c = [c = label]``. The cross-entropies and ``focal`` share these options:

- ``smoothing``: ``y`` becomes ``(1 − s) y + s / C`` (Szegedy et al. 2016, section 7).
- ``class_weights``: a tuple of one factor per class, on that class's term of the sum.
- ``ignore_label``: examples with this label cost 0, and ``fnnet.Cost`` takes the mean over the others.
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
    ignore_label: int | None = None,
) -> Array:
    """Cross-entropy of class probabilities, ``ℓ = −Σ_c y_c log p_c``; for a label, ``−log p_label``.

    The probabilities are taken as they are, not normalized. Train on logits with ``softmax_cross_entropy``.
    """
    p, t, valid = class_targets(
        "losses.cross_entropy",
        prediction,
        target,
        smoothing=smoothing,
        class_weights=class_weights,
        ignore_label=ignore_label,
    )
    # log is given 1 wherever its factor is 0, for the derivative's sake: 0 · (1/0) would be NaN.
    return -(valid * (t * jnp.log(jnp.where(t == 0, 1, p)))).sum(-1)


def softmax_cross_entropy(
    prediction: Array,
    target: Array,
    *,
    smoothing: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
    ignore_label: int | None = None,
) -> Array:
    """Cross-entropy from logits, ``ℓ = −Σ_c y_c log p_c`` with ``p = softmax(z)``; for a label, ``−log p_label``.

    It is ``cross_entropy(softmax(z), y)`` without its rounding and overflow.
    """
    z, t, valid = class_targets(
        "losses.softmax_cross_entropy",
        prediction,
        target,
        smoothing=smoothing,
        class_weights=class_weights,
        ignore_label=ignore_label,
    )
    return -(valid * jnp.where(t == 0, 0, t * log_softmax(z))).sum(-1)


def focal(
    prediction: Array,
    target: Array,
    *,
    gamma: float = 2.0,
    smoothing: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
    ignore_label: int | None = None,
) -> Array:
    """Focal loss from logits, ``ℓ = −Σ_c y_c (1 − p_c)^γ log p_c`` with ``p = softmax(z)``, ``γ ≥ 0``.

    Well-classified examples count less; ``γ = 0`` is ``softmax_cross_entropy``. Source: Lin et al. 2017, eq. 4 and 5.
    """
    z, t, valid = class_targets(
        "losses.focal",
        prediction,
        target,
        smoothing=smoothing,
        class_weights=class_weights,
        ignore_label=ignore_label,
    )
    check_gamma(gamma)
    log_p = log_softmax(z)
    terms = t * power(-jnp.expm1(log_p), gamma) * log_p
    return -(valid * jnp.where(t == 0, 0, terms)).sum(-1)


def check_gamma(gamma: float) -> None:
    checks.require(gamma >= 0, f"losses.focal: gamma is {gamma}; expected a number of at least 0")


def power(q: Array, gamma: float) -> Array:
    """``q^γ`` for ``q ≥ 0``, with derivative 0 at ``q = 0``: there it is only met as a factor of ``log(1 − q) = 0``."""
    zero = q <= 0
    return jnp.where(zero, 1.0 if gamma == 0 else 0.0, jnp.where(zero, 1, q) ** gamma)


def kl_divergence(prediction: Array, target: Array) -> Array:
    """``ℓ = Σ_c y_c log(y_c / p_c)``, how far probabilities ``p`` are from a distribution ``y``; ``0 log 0 = 0``.

    Both ``(N, C)``, taken as they are, not normalized. Source: Kullback and Leibler 1951, eq. 2.4.
    """
    p, y = real_targets("losses.kl_divergence", prediction, target)
    p, safe_y = jnp.where(y == 0, 1, p), jnp.where(y == 0, 1, y)
    near = jnp.abs(p - safe_y) < 0.5 * safe_y
    log_ratio = jnp.log(safe_y) - jnp.log(p)
    log_ratio_near = -jnp.log1p(jnp.where(near, (p - safe_y) / safe_y, 0))  # two close logarithms would cancel
    return (y * jnp.where(near, log_ratio_near, log_ratio)).sum(-1)
