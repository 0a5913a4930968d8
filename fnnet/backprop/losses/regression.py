"""Gradients of the losses of real outputs; ``d = ŷ − y``."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.backprop.precise import double, power_of_2, total, where, worth_it
from fnnet.losses.regression import difference, direction
from fnnet.losses.targets import real_targets
from fnnet.types import Array


def squared_error(prediction: Array, target: Array) -> Array:
    """ℓ = 1/K Σ_k d_k²  ⇒  ∂ℓ/∂ŷ_k = 2/K d_k."""
    prediction, target = real_targets("losses.squared_error", prediction, target)
    return (prediction - target) * (2 / prediction.shape[-1])


def half_squared_error(prediction: Array, target: Array) -> Array:
    """ℓ = ½ Σ_k d_k²  ⇒  ∂ℓ/∂ŷ_k = d_k."""
    prediction, target = real_targets("losses.half_squared_error", prediction, target)
    return prediction - target


def absolute_error(prediction: Array, target: Array) -> Array:
    """ℓ = 1/K Σ_k |d_k|  ⇒  ∂ℓ/∂ŷ_k = 1/K sign(d_k), sign(0) = 0."""
    prediction, target = real_targets("losses.absolute_error", prediction, target)
    return jnp.sign(prediction - target) / prediction.shape[-1]


def huber(prediction: Array, target: Array, *, delta: float = 1.0) -> Array:
    """h(d) = ½ d² where |d| ≤ δ, else δ (|d| − ½ δ)  ⇒  ∂ℓ/∂ŷ_k = 1/K min(max(d_k, −δ), δ)."""
    d = difference("losses.huber", prediction, target, delta)
    return jnp.clip(d, -delta, delta) / d.shape[-1]


def log_cosh(prediction: Array, target: Array) -> Array:
    """ℓ = 1/K Σ_k log cosh d_k  ⇒  ∂ℓ/∂ŷ_k = 1/K tanh d_k."""
    prediction, target = real_targets("losses.log_cosh", prediction, target)
    return jnp.tanh(prediction - target) / prediction.shape[-1]


def cosine(prediction: Array, target: Array) -> Array:
    """ℓ = 1 − u · v with u = ŷ/‖ŷ‖, v = y/‖y‖  ⇒  ∂ℓ/∂ŷ = −(v − (u · v) u) / ‖ŷ‖; 0 where ŷ or y is 0.

    From ∂u/∂ŷ = (I − u uᵀ) / ‖ŷ‖. The part of v across u is that of v − u, or of v + u where they point apart: taken of
    the short difference it has most of its digits, and all of them in double length, where that is worth it.
    """
    prediction, target = real_targets("losses.cosine", prediction, target)
    if worth_it(prediction):
        return precise_cosine(prediction, target)
    u, norm, u_zero = direction(prediction)
    v, _, v_zero = direction(target)
    short = v - jnp.sign((u * v).sum(-1, keepdims=True)) * u
    across = short - (u * short).sum(-1, keepdims=True) * u
    return jnp.where((u_zero | v_zero)[..., None], 0, -across / jnp.where(u_zero[..., None], 1, norm))


def precise_cosine(prediction: Array, target: Array) -> Array:
    """``((x · y) x_k − ‖x‖² y_k) / (‖x‖² ‖x‖ ‖y‖)`` with ``x = ŷ`` and ``y`` brought near 1 by powers of 2."""
    x, *shrink = near_one(prediction)
    y, *_ = near_one(target)
    xx, yy, xy = (total(double(a) * b) for a, b in ((x, x), (y, y), (x, y)))
    zero = (xx.high == 0) | (yy.high == 0)
    xx, sizes = where(zero, 1.0, xx), jnp.sqrt(jnp.where(zero, 1, (xx * yy).high))
    across = ((xy * x - xx * y) / xx).high / sizes
    return jnp.where(zero, 0, across * shrink[0] * shrink[1])


def near_one(x: Array) -> tuple[Array, Array, Array]:
    """``x`` with its largest entry between 1 and 2 by two powers of 2, and these: one alone might be subnormal."""
    exponent = jnp.frexp(jnp.maximum(jnp.abs(x).max(-1, keepdims=True), jnp.finfo(x.dtype).tiny))[1] - 1
    half = exponent // 2
    first, second = power_of_2(-half), power_of_2(half - exponent)
    return x * first * second, first, second
