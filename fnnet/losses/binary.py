"""Losses of yes/no outputs. Shapes ``(N, K), (N, K) -> (N,)``, the sum over the outputs."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.activations import softplus
from fnnet.losses.products import product, times_log
from fnnet.losses.targets import binary_targets, sign_targets
from fnnet.types import Array


def binary_cross_entropy(prediction: Array, target: Array) -> Array:
    """Return the cross-entropy of ``K`` yes/no probabilities, ``ℓ = −Σ_k y_k log p_k + (1 − y_k) log(1 − p_k)``.

    Targets lie in [0, 1] and may have any dtype. With ``0 log 0 = 0`` the loss of a prediction that is certain and
    right is 0, and that of one that is certain and wrong is infinite. Use ``sigmoid_cross_entropy`` for logits.
    """
    p, y = binary_targets("losses.binary_cross_entropy", prediction, target, probabilities=True)
    no = (1 - y) * jnp.log1p(-jnp.where((y == 1) & (p == 1), 0, p))  # log(1 - p) would round 1 - p
    return -(times_log(y, p) + no).sum(-1)


def sigmoid_cross_entropy(prediction: Array, target: Array) -> Array:
    """Return the binary cross-entropy of logits, ``ℓ = Σ_k y_k s(−z_k) + (1 − y_k) s(z_k)``, with ``s = softplus``.

    It equals ``binary_cross_entropy(sigmoid(z), y)`` but neither rounds to infinity nor overflows. Targets lie in
    [0, 1] and may have any dtype.
    """
    z, y = binary_targets("losses.sigmoid_cross_entropy", prediction, target)
    return (product(y, softplus(-z)) + product(1 - y, softplus(z))).sum(-1)


def hinge(prediction: Array, target: Array) -> Array:
    """Return ``ℓ = Σ_k max(0, 1 − y_k ŷ_k)`` for targets −1 or 1; the derivative at the kink is 0.

    Source: Cortes and Vapnik 1995.
    """
    prediction, y = sign_targets("losses.hinge", prediction, target)
    return shortfall(y * prediction).sum(-1)


def squared_hinge(prediction: Array, target: Array) -> Array:
    """Return ``ℓ = Σ_k max(0, 1 − y_k ŷ_k)²`` for targets −1 or 1."""
    prediction, y = sign_targets("losses.squared_hinge", prediction, target)
    return jnp.square(shortfall(y * prediction)).sum(-1)


def shortfall(margin: Array) -> Array:
    """Return ``max(0, 1 − margin)`` with the derivative 0 at the kink."""
    return jnp.where(margin >= 1, 0, 1 - margin)
