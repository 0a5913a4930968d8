"""Losses of yes/no outputs, each output by itself. Shapes ``(N, K), (N, K) -> (N,)``, summed over the outputs."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.activations import softplus
from fnnet.losses.targets import binary_targets, sign_targets
from fnnet.types import Array


def binary_cross_entropy(prediction: Array, target: Array) -> Array:
    """Cross-entropy of ``K`` independent yes/no probabilities, ``ℓ = −Σ_k y_k log p_k + (1 − y_k) log(1 − p_k)``.

    Targets in [0, 1], of any dtype. With ``0 log 0 = 0`` a certain and right prediction costs 0; a certain and wrong
    one costs infinity. Train on logits with ``sigmoid_cross_entropy``.
    """
    p, y = binary_targets("losses.binary_cross_entropy", prediction, target)
    # log is given 1 wherever its factor is 0, for the derivative's sake: 0 · (1/0) would be NaN.
    yes = y * jnp.log(jnp.where(y == 0, 1, p))
    no = (1 - y) * jnp.log1p(-jnp.where(y == 1, 0, p))
    return -(yes + no).sum(-1)


def sigmoid_cross_entropy(prediction: Array, target: Array) -> Array:
    """Binary cross-entropy from logits, ``ℓ = Σ_k y_k s(−z_k) + (1 − y_k) s(z_k)`` with ``s(z) = log(1 + exp(z))``.

    It is ``binary_cross_entropy(sigmoid(z), y)`` without its rounding and overflow. Targets in [0, 1], of any dtype.
    """
    z, y = binary_targets("losses.sigmoid_cross_entropy", prediction, target)
    yes = jnp.where(y == 0, 0, y * softplus(-z))
    no = jnp.where(y == 1, 0, (1 - y) * softplus(z))
    return (yes + no).sum(-1)


def hinge(prediction: Array, target: Array) -> Array:
    """``ℓ = Σ_k max(0, 1 − y_k ŷ_k)`` for targets −1 or 1; the derivative at the kink is 0 (Cortes and Vapnik 1995)."""
    prediction, y = sign_targets("losses.hinge", prediction, target)
    return shortfall(y * prediction).sum(-1)


def squared_hinge(prediction: Array, target: Array) -> Array:
    """``ℓ = Σ_k max(0, 1 − y_k ŷ_k)²`` for targets −1 or 1."""
    prediction, y = sign_targets("losses.squared_hinge", prediction, target)
    return jnp.square(shortfall(y * prediction)).sum(-1)


def shortfall(margin: Array) -> Array:
    """``max(0, 1 − margin)`` with derivative 0 at the kink."""
    return jnp.where(margin >= 1, 0, 1 - margin)
