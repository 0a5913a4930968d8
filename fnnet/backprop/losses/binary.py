"""Gradients of the losses of yes/no outputs."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.activations import sigmoid
from fnnet.losses.binary import shortfall
from fnnet.losses.targets import binary_targets, sign_targets
from fnnet.types import Array


def binary_cross_entropy(prediction: Array, target: Array) -> Array:
    """ℓ = −Σ_k y_k log p_k + (1 − y_k) log(1 − p_k)  ⇒  ∂ℓ/∂p_k = (p_k − y_k) / (p_k (1 − p_k)).

    For y_k = 0 this is 1 / (1 − p_k), for y_k = 1 it is −1 / p_k, also where the other factor is 0.
    """
    p, y = binary_targets("losses.binary_cross_entropy", prediction, target)
    no, yes = y == 0, y == 1
    between = (p - y) / jnp.where(no | yes, 1, p * (1 - p))
    return jnp.where(no, 1 / (1 - jnp.where(no, p, 0)), jnp.where(yes, -1 / jnp.where(yes, p, 1), between))


def sigmoid_cross_entropy(prediction: Array, target: Array) -> Array:
    """ℓ = Σ_k y_k s(−z_k) + (1 − y_k) s(z_k) and s' = σ  ⇒  ∂ℓ/∂z_k = (1 − y_k) σ(z_k) − y_k σ(−z_k).

    This is σ(z_k) − y_k without the cancellation when the two are close to 0 or 1; close to ½ it is the same as
    (½ − y_k) + ½ tanh(z_k / 2).
    """
    z, y = binary_targets("losses.sigmoid_cross_entropy", prediction, target)
    return jnp.where(jnp.abs(z) < 1, (0.5 - y) + 0.5 * jnp.tanh(0.5 * z), (1 - y) * sigmoid(z) - y * sigmoid(-z))


def sigmoid_then_binary_cross_entropy(p: Array, target: Array) -> Array:
    """Sigmoid and binary cross-entropy as one: from p = σ(z), ∂ℓ/∂z_k = p_k − y_k."""
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
