"""Activation functions: plain functions of an array.

Each is written so that its value is right over the whole floating-point range. The derivatives by hand are in
``fnnet.backprop.activations``. In the formulas ``z`` is the input and ``a = f(z)``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnnet.types import Array


def identity(z: Array) -> Array:
    """``f(z) = z``, with ``f'(z) = 1``."""
    return jnp.asarray(z)


def sigmoid(z: Array) -> Array:
    """Logistic function, ``σ(z) = 1 / (1 + exp(−z))``, with ``σ'(z) = σ(z) (1 − σ(z))``."""
    return jax.nn.sigmoid(z)


def tanh(z: Array) -> Array:
    """Hyperbolic tangent, ``tanh(z) = (exp(z) − exp(−z)) / (exp(z) + exp(−z))``, with ``tanh'(z) = 1 − tanh²(z)``."""
    return jnp.tanh(z)


def relu(z: Array) -> Array:
    """Rectified linear unit, ``max(z, 0)``, with ``relu'(z) = [z > 0]``; at the kink ``relu'(0) = 0``.

    Source: Nair and Hinton 2010, "Rectified linear units improve restricted Boltzmann machines".
    """
    return jnp.where(z <= 0, 0, z)  # not maximum: its derivative at 0 is ½; and NaN stays NaN


def softmax(z: Array, *, axis: int = -1) -> Array:
    """``softmax(z)_i = exp(z_i) / Σ_j exp(z_j)`` along ``axis``, with ``∂a_i/∂z_j = a_i ([i = j] − a_j)``.

    The maximum is subtracted first, which changes nothing but keeps ``exp`` from overflowing.
    """
    e = jnp.exp(z - jax.lax.stop_gradient(z.max(axis, keepdims=True)))
    return e / e.sum(axis, keepdims=True)


def log_softmax(z: Array, *, axis: int = -1) -> Array:
    """``log softmax(z)_i = z_i − log Σ_j exp(z_j)`` along ``axis``, with ``∂a_i/∂z_j = [i = j] − softmax(z)_j``."""
    z = z - jax.lax.stop_gradient(z.max(axis, keepdims=True))
    return z - jnp.log(jnp.exp(z).sum(axis, keepdims=True))
