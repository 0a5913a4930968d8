"""Gradients of the losses over classes.

``t_c`` is the factor of class ``c``'s term: ``[c = label]`` or the distribution's ``y_c``, after smoothing and class
weights. ``options`` are these two, as in ``losses.targets.class_targets``.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fnnet.activations import log_softmax, softmax
from fnnet.losses.classes import checked_gamma, power
from fnnet.losses.products import ratio
from fnnet.losses.targets import class_targets, real_targets
from fnnet.types import Array, Scalar


def cross_entropy(prediction: Array, target: Array, **options: Any) -> Array:
    """ℓ = −Σ_c t_c log p_c  ⇒  ∂ℓ/∂p_c = −t_c / p_c; 0 where t_c is 0."""
    p, t = class_targets("losses.cross_entropy", prediction, target, probabilities=True, **options)
    return -ratio(t, p)


def softmax_cross_entropy(prediction: Array, target: Array, **options: Any) -> Array:
    """ℓ = −Σ_c t_c log p_c with p = softmax(z)  ⇒  ∂ℓ/∂z_c = p_c Σ_j t_j − t_c; for a label the textbook's p − y.

    With label smoothing s, t_c = (1 − s) y_c + s / C stands in it for the label (``losses.targets.class_targets``).
    """
    z, t = class_targets("losses.softmax_cross_entropy", prediction, target, **options)
    return softmax(z) * t.sum(-1, keepdims=True) - t


def softmax_then_cross_entropy(p: Array, target: Array, **options: Any) -> Array:
    """Softmax and cross-entropy together: with p = softmax(z), ∂ℓ/∂z_c = p_c Σ_j t_j − t_c.

    The chain rule through ∂ℓ/∂p = −t / p would divide by a probability and multiply by it again, which is NaN where the
    probability underflows. Here it cancels on paper.
    """
    p, t = class_targets("losses.cross_entropy", p, target, probabilities=True, **options)
    return p * t.sum(-1, keepdims=True) - t


def focal(prediction: Array, target: Array, *, gamma: Scalar = 2.0, **options: Any) -> Array:
    """ℓ = −Σ_c t_c q_c^γ l_c with l = log softmax(z), q = 1 − exp(l)  ⇒  ∂ℓ/∂l_c = t_c (γ q_c^{γ−1} p_c l_c − q_c^γ).

    This follows from ∂q/∂l = −p. Where p_c = 0, p_c l_c has the limit 0, and where q_c = 0, q_c^{γ−1} l_c has it. With
    d = ∂ℓ/∂l, log-softmax gives ∂ℓ/∂z_c = d_c − p_c Σ_j d_j.
    """
    z, t = class_targets("losses.focal", prediction, target, **options)
    gamma = checked_gamma(gamma, z)
    p, log_p = softmax(z), log_softmax(z)
    q = -jnp.expm1(log_p)
    p_log_p = p * jnp.where(p == 0, 0, log_p)
    d = t * (gamma * power(q, gamma - 1) * p_log_p - power(q, gamma))
    return d - p * d.sum(-1, keepdims=True)


def kl_divergence(prediction: Array, target: Array) -> Array:
    """ℓ = Σ_c y_c log(y_c / p_c)  ⇒  ∂ℓ/∂p_c = −y_c / p_c; 0 where y_c is 0."""
    p, y = real_targets("losses.kl_divergence", prediction, target, probabilities=True)
    return -ratio(y, p)
