"""Projections: the nearest point of a set, ``P(x) = argmin_{y ∈ set} ‖y − x‖``, as pure functions of an array.

For constrained optimization: ``fnnet.optimizers.project`` applies one after every update. Options are fixed with
``fnnet.bind``: ``bind(max_norm, limit=3.0)``. Every projection leaves points of its set as they are: ``P(P(x)) = P(x)``
up to rounding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnnet.checks import require
from fnnet.types import Array

__all__ = ["box", "max_norm", "non_negative", "simplex", "unit_norm"]


def non_negative(x: Array) -> Array:
    """On ``{y : y_i ≥ 0}``: ``max(x_i, 0)``."""
    return jnp.maximum(x, 0)


def box(x: Array, *, low: float, high: float) -> Array:
    """On ``{y : low ≤ y_i ≤ high}``: ``min(max(x_i, low), high)``."""
    require(low <= high, f"projections.box: low is {low} and high is {high}; expected low ≤ high")
    return jnp.clip(x, low, high)


def max_norm(x: Array, *, limit: float, axis: int = 0) -> Array:
    """On ``{y : ‖y‖ ≤ limit}`` for every vector along ``axis``: ``x · min(1, limit / ‖x‖)``.

    ``axis=0`` of a weight ``(D, H)`` bounds the weights into each neuron (Srivastava et al. 2014, section 5.1).
    """
    require(limit > 0, f"projections.max_norm: limit is {limit}; expected a number above 0")
    length = norm(x, axis)
    return jnp.where(length > limit, x * (limit / jnp.where(length > limit, length, 1)), x)


def unit_norm(x: Array, *, axis: int = 0) -> Array:
    """On ``{y : ‖y‖ = 1}`` for every vector along ``axis``: ``x / ‖x‖``.

    Every unit vector is as near to the zero vector as any other; the one with equal entries is taken.
    """
    length = norm(x, axis)
    equal = jnp.asarray(x.shape[axis], x.dtype) ** -0.5
    return jnp.where(length > 0, x / jnp.where(length > 0, length, 1), equal)


def simplex(x: Array, *, total: float = 1.0, axis: int = -1) -> Array:
    """On ``{y : y_i ≥ 0, Σ_i y_i = total}`` for every vector along ``axis``: ``max(x_i − τ, 0)``.

    With ``x`` sorted downwards as ``u`` and ``k`` the largest index where ``k u_k > Σ_{j ≤ k} u_j − total``,
    ``τ = (Σ_{j ≤ k} u_j − total) / k``. Source: Held, Wolfe and Crowder 1974; Duchi et al. 2008, figure 1.
    """
    require(total > 0, f"projections.simplex: total is {total}; expected a number above 0")
    last = jnp.moveaxis(x, axis, -1)
    last = last - jax.lax.stop_gradient(last.max(-1, keepdims=True))  # moves along (1, ..., 1) change nothing
    u = -jnp.sort(-last, axis=-1)
    excess = jnp.cumsum(u, axis=-1) - total
    k = jnp.arange(1, u.shape[-1] + 1).astype(u.dtype)
    count = (k * u > excess).sum(-1, keepdims=True)
    threshold = jnp.take_along_axis(excess, count - 1, axis=-1) / count.astype(u.dtype)
    return jnp.moveaxis(jnp.maximum(last - threshold, 0), -1, axis)


def norm(x: Array, axis: int) -> Array:
    """``‖x‖`` along ``axis``, kept; squares neither overflow nor vanish."""
    scale = jnp.abs(x).max(axis, keepdims=True)
    scaled = x / jnp.where(scale > 0, scale, 1)
    return scale * jnp.sqrt(jnp.square(scaled).sum(axis, keepdims=True))
