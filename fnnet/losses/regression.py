"""Losses of real outputs. Shapes ``(N, K), (N, K) -> (N,)``, floating-point targets.

With ``d = ŷ − y`` and ``Σ`` over the ``K`` outputs:

====================== ======================== ============================= ====================
loss                   formula                  gradient ``∂ℓ/∂ŷ_k``          over the outputs
====================== ======================== ============================= ====================
``squared_error``      ``1/K Σ d²``             ``2/K d_k``                   mean
``half_squared_error`` ``1/K Σ ½ d²``           ``1/K d_k``                   mean
``absolute_error``     ``1/K Σ |d|``            ``1/K sign(d_k)``             mean
``huber``              ``1/K Σ h(d)``           ``1/K min(max(d_k, −δ), δ)``  mean
``log_cosh``           ``1/K Σ log cosh d``     ``1/K tanh(d_k)``             mean
``cosine``             ``1 − ŷ·y / (‖ŷ‖ ‖y‖)``  ``((u·v) u − v)_k / ‖ŷ‖``     one angle for all
====================== ======================== ============================= ====================
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.activations import magnitude
from fnnet.losses.targets import real_targets
from fnnet.types import Array, Scalar


def squared_error(prediction: Array, target: Array) -> Array:
    """Return the mean squared error of each example, ``ℓ = 1/K Σ_k (ŷ_k − y_k)²``."""
    return jnp.square(difference("losses.squared_error", prediction, target)).mean(-1)


def half_squared_error(prediction: Array, target: Array) -> Array:
    """Return half of ``squared_error``, ``ℓ = 1/K Σ_k ½ (ŷ_k − y_k)²``; for one output the gradient is ``ŷ − y``."""
    d = difference("losses.half_squared_error", prediction, target)
    return (0.5 * d * d).mean(-1)


def absolute_error(prediction: Array, target: Array) -> Array:
    """Return the mean absolute error of each example, ``ℓ = 1/K Σ_k |ŷ_k − y_k|``; the derivative at 0 is 0."""
    return magnitude(difference("losses.absolute_error", prediction, target)).mean(-1)


def huber(prediction: Array, target: Array, *, delta: Scalar = 1.0) -> Array:
    """Return ``ℓ = 1/K Σ_k h(d_k)`` with ``h(d) = ½ d²`` where ``|d| ≤ δ``, else ``δ (|d| − ½ δ)``.

    ``delta`` is above 0. Source: Huber 1964.
    """
    d = difference("losses.huber", prediction, target)
    delta = checked_delta(delta, d)
    size = magnitude(d)
    inside = size <= delta
    return jnp.where(inside, 0.5 * jnp.square(jnp.where(inside, d, 0)), delta * (size - 0.5 * delta)).mean(-1)


def checked_delta(delta: Scalar, like: Array) -> Scalar:
    checks.a_number("losses.huber", "delta", delta)
    value = checks.known(delta)
    checks.require(value is None or value > 0, f"losses.huber: delta is {delta}; expected a number above 0")
    return checks.in_dtype(delta, like.dtype)


def log_cosh(prediction: Array, target: Array) -> Array:
    """Return ``ℓ = 1/K Σ_k log cosh d_k``, about ``½ d²`` for small and ``|d| − log 2`` for large differences."""
    d = difference("losses.log_cosh", prediction, target)
    size = jnp.abs(d)
    small = size < 1
    # cosh d = 1 + 2 sinh²(d/2) keeps a small result from rounding to 0; the other form does not overflow.
    near = jnp.log1p(2 * jnp.square(jnp.sinh(0.5 * jnp.where(small, d, 0))))
    far = size + jnp.log1p(jnp.exp(-2 * size)) - math.log(2)
    return jnp.where(small, near, far).mean(-1)


def cosine(prediction: Array, target: Array) -> Array:
    """Return ``ℓ = 1 − ŷ · y / (‖ŷ‖ ‖y‖)``, a number from 0 to 2.

    Where ``ŷ`` or ``y`` is zero, the loss is 1 and its derivative 0. The loss is computed as ``½ ‖u − v‖²`` with
    ``u = ŷ/‖ŷ‖`` and ``v = y/‖y‖``, which is equal and not below 0.
    """
    prediction, target = real_targets("losses.cosine", prediction, target)
    u, _, u_zero = direction(prediction)
    v, _, v_zero = direction(target)
    return jnp.where(u_zero | v_zero, 1, 0.5 * jnp.square(u - v).sum(-1))


def direction(x: Array) -> tuple[Array, Array, Array]:
    """Return ``x / ‖x‖``, ``‖x‖`` and whether it is 0, over the last axis; its squares neither overflow nor vanish."""
    scale = jax.lax.stop_gradient(jnp.abs(x).max(-1, keepdims=True))
    zero = scale == 0
    # XLA divides by multiplying with 1 / scale, which for the largest numbers would be subnormal and so 0.
    shrink = jnp.where(scale > jnp.finfo(x.dtype).max / 8, 0.25, 1).astype(x.dtype)
    scale = jnp.where(zero, 1, scale * shrink)
    near_one = jnp.where(zero, 1, x * shrink / scale)
    norm = jnp.sqrt(jnp.square(near_one).sum(-1, keepdims=True))
    return near_one / norm, norm * scale / shrink, zero[..., 0]


def difference(place: str, prediction: Array, target: Array) -> Array:
    """Return ``d = ŷ − y``, after checking both."""
    prediction, target = real_targets(place, prediction, target)
    return prediction - target
