"""Gradients of the losses of real outputs; ``d = ŷ − y``."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.losses.regression import checked_delta, difference, direction
from fnnet.losses.targets import real_targets
from fnnet.types import Array, Scalar


def squared_error(prediction: Array, target: Array) -> Array:
    """ℓ = 1/K Σ_k d_k²  ⇒  ∂ℓ/∂ŷ_k = 2/K d_k."""
    d = difference("losses.squared_error", prediction, target)
    return d * (2 / d.shape[-1])


def half_squared_error(prediction: Array, target: Array) -> Array:
    """ℓ = 1/K Σ_k ½ d_k²  ⇒  ∂ℓ/∂ŷ_k = 1/K d_k."""
    d = difference("losses.half_squared_error", prediction, target)
    return d / d.shape[-1]


def absolute_error(prediction: Array, target: Array) -> Array:
    """ℓ = 1/K Σ_k |d_k|  ⇒  ∂ℓ/∂ŷ_k = 1/K sign(d_k) with sign(0) = 0."""
    d = difference("losses.absolute_error", prediction, target)
    return jnp.sign(d) / d.shape[-1]


def huber(prediction: Array, target: Array, *, delta: Scalar = 1.0) -> Array:
    """h(d) = ½ d² where |d| ≤ δ, else δ (|d| − ½ δ)  ⇒  ∂ℓ/∂ŷ_k = 1/K min(max(d_k, −δ), δ)."""
    d = difference("losses.huber", prediction, target)
    delta = checked_delta(delta, d)
    return jnp.clip(d, -delta, delta) / d.shape[-1]


def log_cosh(prediction: Array, target: Array) -> Array:
    """ℓ = 1/K Σ_k log cosh d_k  ⇒  ∂ℓ/∂ŷ_k = 1/K tanh(d_k)."""
    d = difference("losses.log_cosh", prediction, target)
    return jnp.tanh(d) / d.shape[-1]


def cosine(prediction: Array, target: Array) -> Array:
    """ℓ = ½ ‖u − v‖² with u = ŷ/‖ŷ‖, v = y/‖y‖  ⇒  ∂ℓ/∂ŷ = (I − u uᵀ) (u − v) / ‖ŷ‖; 0 where ŷ or y is 0.

    This follows from ∂u/∂ŷ = (I − u uᵀ) / ‖ŷ‖. As (I − u uᵀ) u = 0, it equals ((u · v) u − v) / ‖ŷ‖.
    """
    prediction, target = real_targets("losses.cosine", prediction, target)
    u, norm, u_zero = direction(prediction)
    v, _, v_zero = direction(target)
    d = u - v
    across = d - (u * d).sum(-1, keepdims=True) * u
    return jnp.where((u_zero | v_zero)[..., None], 0, across / jnp.where(u_zero[..., None], 1, norm))
