"""Gradients of the losses of yes/no outputs."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.activations import sigmoid
from fnnet.losses.binary import shortfall
from fnnet.losses.products import ratio
from fnnet.losses.targets import binary_targets, sign_targets
from fnnet.types import Array


def binary_cross_entropy(prediction: Array, target: Array) -> Array:
    """ℓ = −Σ_k y_k log p_k + (1 − y_k) log(1 − p_k)  ⇒  ∂ℓ/∂p_k = (1 − y_k) / (1 − p_k) − y_k / p_k.

    A term whose factor is 0 is 0, even where its denominator is 0.
    """
    p, y = binary_targets("losses.binary_cross_entropy", prediction, target, probabilities=True)
    return ratio(1 - y, 1 - p) - ratio(y, p)


def sigmoid_cross_entropy(prediction: Array, target: Array) -> Array:
    """ℓ = Σ_k y_k s(−z_k) + (1 − y_k) s(z_k) and s' = σ  ⇒  ∂ℓ/∂z_k = (1 − y_k) σ(z_k) − y_k σ(−z_k) = σ(z_k) − y_k."""
    z, y = binary_targets("losses.sigmoid_cross_entropy", prediction, target)
    return sigmoid(z) - y


def sigmoid_then_binary_cross_entropy(p: Array, target: Array) -> Array:
    """Sigmoid and binary cross-entropy together: with p = σ(z), ∂ℓ/∂z_k = p_k − y_k."""
    p, y = binary_targets("losses.binary_cross_entropy", p, target)
    return p - y


def hinge(prediction: Array, target: Array) -> Array:
    """ℓ = Σ_k max(0, 1 − y_k ŷ_k)  ⇒  ∂ℓ/∂ŷ_k = −y_k where y_k ŷ_k < 1, else 0."""
    prediction, y = sign_targets("losses.hinge", prediction, target)
    return jnp.where(y * prediction >= 1, 0, -y)


def squared_hinge(prediction: Array, target: Array) -> Array:
    """ℓ = Σ_k max(0, 1 − y_k ŷ_k)²  ⇒  ∂ℓ/∂ŷ_k = −2 y_k max(0, 1 − y_k ŷ_k)."""
    prediction, y = sign_targets("losses.squared_hinge", prediction, target)
    return -2 * y * shortfall(y * prediction)
