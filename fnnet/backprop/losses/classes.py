"""Gradients of the losses over classes.

``t_c`` is the weight of class ``c``'s term: ``[c = label]`` or the distribution's ``y_c``, with the options of the loss
(smoothing, class weights, an ignored label) worked in. ``options`` are those of ``losses.targets.class_targets``.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.activations import exponentials
from fnnet.backprop import precise
from fnnet.backprop.precise import Double, double, two_sum
from fnnet.losses.classes import check_gamma
from fnnet.losses.targets import class_targets, real_targets
from fnnet.types import Array


def cross_entropy(prediction: Array, target: Array, **options: Any) -> Array:
    """ℓ = −Σ_c t_c log p_c  ⇒  ∂ℓ/∂p_c = −t_c / p_c; 0 where t_c is 0."""
    p, t, valid = class_targets("losses.cross_entropy", prediction, target, **options)
    return valid * (-t / jnp.where(t == 0, 1, p))


def softmax_cross_entropy(prediction: Array, target: Array, **options: Any) -> Array:
    """ℓ = −Σ_c t_c log p_c with p = softmax(z)  ⇒  ∂ℓ/∂z_c = p_c Σ_j t_j − t_c; for a label the textbook's p − y.

    With e_c = exp(z_c − max z) and p_c = e_c / (1 + x), where x is what the sum of the e_c exceeds 1 by, this is
    (e_c Σ_j t_j − t_c − t_c x) / (1 + x): exact also where p_c is so near to t_c that p_c − t_c rounds to 0.
    """
    z, t, valid = class_targets("losses.softmax_cross_entropy", prediction, target, **options)
    if precise.worth_it(z) and may_cancel(target, **options):
        return valid * precise_softmax_cross_entropy(z, precise_targets(z, target, **options))
    _, e, excess = exponentials(z, -1)
    return valid * ((e * t.sum(-1, keepdims=True) - t - t * excess) / (1 + excess))


def softmax_then_cross_entropy(p: Array, target: Array, **options: Any) -> Array:
    """Softmax and cross-entropy as one: from p = softmax(z), ∂ℓ/∂z_c = p_c Σ_j t_j − t_c.

    By the chain rule through ∂ℓ/∂p = −t / p it would divide by a probability and multiply by it again, and give NaN
    where that underflows; as one it cancels on paper.
    """
    p, t, valid = class_targets("losses.cross_entropy", p, target, **options)
    return valid * (p * t.sum(-1, keepdims=True) - t)


def focal(prediction: Array, target: Array, *, gamma: float = 2.0, **options: Any) -> Array:
    """ℓ = −Σ_c t_c q_c^γ l_c with l = log softmax(z), q = 1 − exp(l)  ⇒  ∂ℓ/∂l_c = t_c q_c^γ (γ p_c l_c / q_c − 1).

    From ∂q/∂l = −p; where q_c = 0, l_c / q_c is its limit −1, and where p_c = 0, p_c l_c is its limit 0.
    Then with d = ∂ℓ/∂l: ∂ℓ/∂z_c = d_c − p_c Σ_j d_j = d_c q_c − p_c Σ_{j≠c} d_j.
    """
    check_gamma(gamma)
    z, t, valid = class_targets("losses.focal", prediction, target, **options)
    if precise.worth_it(z):
        return valid * precise_focal(z, precise_targets(z, target, **options), gamma)
    shifted, e, excess = exponentials(z, -1)
    log_p = shifted - jnp.log1p(excess)
    p, q = e / (1 + excess), -jnp.expm1(log_p)
    ratio = jnp.where(q == 0, -1, jnp.where(p == 0, 0, log_p) / jnp.where(q == 0, 1, q))
    d = jnp.where(t == 0, 0, t * q**gamma * (gamma * (p * ratio) - 1))
    return valid * (d * q - p * (d.sum(-1, keepdims=True) - d))


def kl_divergence(prediction: Array, target: Array) -> Array:
    """ℓ = Σ_c y_c log(y_c / p_c)  ⇒  ∂ℓ/∂p_c = −y_c / p_c; 0 where y_c is 0."""
    p, y = real_targets("losses.kl_divergence", prediction, target)
    return -y / jnp.where(y == 0, 1, p)


def may_cancel(target: Array, *, smoothing: float = 0.0, **options: Any) -> bool:
    """Whether ``∂ℓ/∂z`` can be a small difference of large terms: several classes may have a ``t_c``."""
    return smoothing > 0 or not checks.is_integer(target)


def precise_softmax_cross_entropy(z: Array, t: Double) -> Array:
    """``softmax_cross_entropy`` in double length."""
    _, e, x = precise_exponentials(z)
    return ((e * precise.total(t) - t - t * x) / (1 + x)).high


def precise_focal(z: Array, t: Double, gamma: float) -> Array:
    """``focal`` in double length; for labels too, where the errors of so many factors would add up."""
    shifted, e, x = precise_exponentials(z)
    p, q = e / (1 + x), ((1 - e) + x) / (1 + x)
    certain = q.high == 0
    safe_q = precise.where(certain, 1.0, q)
    ratio = precise.where(certain, -1.0, (shifted - precise.log1p(x)) / safe_q)
    power = precise.where(certain, float(gamma == 0), precise.exp(gamma * precise.log(safe_q)))
    d = t * power * (gamma * (p * ratio) - 1)
    return (d * q - p * (precise.total(d) - d)).high


def precise_exponentials(z: Array) -> tuple[Double, Double, Double]:
    """``activations.exponentials`` of the last axis in double length; what is below −104 counts as −104."""
    largest = jax.lax.stop_gradient(z.max(-1, keepdims=True))
    shifted = precise.where(z == jnp.inf, 0.0, two_sum(z, -largest))
    shifted = precise.where(shifted.high < precise.FAR, precise.FAR, shifted)
    e, at_largest = precise.exp(shifted), (z == largest).astype(z.dtype)
    return shifted, e, precise.total(e - at_largest) + (at_largest.sum(-1, keepdims=True) - 1)


def precise_targets(
    z: Array,
    target: Array,
    *,
    smoothing: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
    ignore_label: int | None = None,
) -> Double:
    """The ``t_c`` of ``class_targets``, which checks the arguments, in double length."""
    _, y, _ = class_targets("losses.softmax_cross_entropy", z, target, ignore_label=ignore_label)
    t = double(y)
    if smoothing:
        t = t * (1 - smoothing) + smoothing / z.shape[-1]
    if class_weights is not None:
        t = t * np.reshape(class_weights, (1,) * (z.ndim - 1) + (-1,))
    return t if ignore_label is None else precise.where((y == 0).all(-1, keepdims=True), 0.0, t)
