"""Losses of real outputs. Shapes ``(N, K), (N, K) -> (N,)``, floating-point targets; ``d = ŷ − y``."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.activations import magnitude
from fnnet.losses.targets import real_targets
from fnnet.types import Array


def squared_error(prediction: Array, target: Array) -> Array:
    """Mean squared error of an example, ``ℓ = 1/K Σ_k (ŷ_k − y_k)²``."""
    prediction, target = real_targets("losses.squared_error", prediction, target)
    return jnp.square(prediction - target).mean(-1)


def half_squared_error(prediction: Array, target: Array) -> Array:
    """Half squared error of an example, ``ℓ = ½ Σ_k (ŷ_k − y_k)²``: a sum, so that its gradient is ``ŷ − y``."""
    prediction, target = real_targets("losses.half_squared_error", prediction, target)
    d = prediction - target
    return (0.5 * d * d).sum(-1)


def absolute_error(prediction: Array, target: Array) -> Array:
    """Mean absolute error of an example, ``ℓ = 1/K Σ_k |ŷ_k − y_k|``; the derivative at 0 is 0."""
    prediction, target = real_targets("losses.absolute_error", prediction, target)
    return magnitude(prediction - target).mean(-1)


def huber(prediction: Array, target: Array, *, delta: float = 1.0) -> Array:
    """``ℓ = 1/K Σ_k h(d_k)`` with ``h(d) = ½ d²`` where ``|d| ≤ δ``, else ``δ (|d| − ½ δ)``; ``δ > 0`` (Huber 1964)."""
    d = difference("losses.huber", prediction, target, delta)
    size = magnitude(d)
    inside = size <= delta
    return jnp.where(inside, 0.5 * jnp.square(jnp.where(inside, d, 0)), delta * (size - 0.5 * delta)).mean(-1)


def log_cosh(prediction: Array, target: Array) -> Array:
    """``ℓ = 1/K Σ_k log cosh d_k``: half the square of a small difference, the size of a large one."""
    prediction, target = real_targets("losses.log_cosh", prediction, target)
    d = prediction - target
    size = jnp.abs(d)
    small = size < 1
    # cosh d = 1 + 2 sinh²(d/2) keeps the digits of a small result, |d| + log((1 + exp(−2 |d|)) / 2) does not overflow
    near = jnp.log1p(2 * jnp.square(jnp.sinh(0.5 * jnp.where(small, d, 0))))
    far = size + jnp.log1p(jnp.exp(-2 * size)) - math.log(2)
    return jnp.where(small, near, far).mean(-1)


def cosine(prediction: Array, target: Array) -> Array:
    """``ℓ = 1 − ŷ · y / (‖ŷ‖ ‖y‖)``, between 0 and 2. Where either is the zero vector, 1 with derivative 0.

    Computed as ``½ ‖ŷ/‖ŷ‖ − y/‖y‖‖²``, which is the same and does not cancel when the directions are close.
    """
    prediction, target = real_targets("losses.cosine", prediction, target)
    u, _, u_zero = direction(prediction)
    v, _, v_zero = direction(target)
    return jnp.where(u_zero | v_zero, 1, 0.5 * jnp.square(u - v).sum(-1))


def direction(x: Array) -> tuple[Array, Array, Array]:
    """``x / ‖x‖``, ``‖x‖`` and whether it is zero, over the last axis; squares neither overflow nor vanish."""
    scale = jax.lax.stop_gradient(jnp.abs(x).max(-1, keepdims=True))
    zero = scale == 0
    # XLA divides by multiplying with 1 / scale, which for the largest numbers would be subnormal and so 0.
    shrink = jnp.where(scale > jnp.finfo(x.dtype).max / 8, 0.25, 1).astype(x.dtype)
    scale = jnp.where(zero, 1, scale * shrink)
    scaled = jnp.where(zero, 1, x * shrink / scale)
    norm = jnp.sqrt(jnp.square(scaled).sum(-1, keepdims=True))
    return scaled / norm, norm * scale / shrink, zero[..., 0]


def difference(place: str, prediction: Array, target: Array, delta: float) -> Array:
    prediction, target = real_targets(place, prediction, target)
    checks.require(delta > 0, f"{place}: delta is {delta}; expected a number above 0")
    return prediction - target
