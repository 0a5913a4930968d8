"""Projections: pure functions from an array to the nearest point of a set, ``P(x) = argmin_{y ∈ set} ‖y − x‖``.

``fnnet.optimizers.project`` applies a projection after every update, for constrained optimization. Fix the options with
``fnnet.bind``: ``bind(max_norm, limit=3.0)``. A point of the set is its own projection: ``P(P(x)) = P(x)``, up to
rounding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnnet.checks import a_number, above_zero, in_dtype, known, require
from fnnet.norms import norm
from fnnet.types import Array, Scalar

__all__ = ["box", "max_norm", "non_negative", "simplex", "unit_norm"]


def non_negative(x: Array) -> Array:
    """Return ``max(x_i, 0)``, the projection on ``{y : y_i ≥ 0}``."""
    return jnp.maximum(x, 0)


def box(x: Array, *, low: Scalar, high: Scalar) -> Array:
    """Return ``min(max(x_i, low), high)``, the projection on ``{y : low ≤ y_i ≤ high}``."""
    for name, value in (("low", low), ("high", high)):
        a_number("projections.box", name, value)
    bounds = known((low, high))
    require(
        bounds is None or bounds[0] <= bounds[1],
        f"projections.box: low is {low} and high is {high}; expected low ≤ high",
    )
    return jnp.clip(x, in_dtype(low, x.dtype), in_dtype(high, x.dtype))


def max_norm(x: Array, *, limit: Scalar, axis: int = 0) -> Array:
    """Return ``x · min(1, limit / ‖x‖)`` for every vector along ``axis``, the projection on ``{y : ‖y‖ ≤ limit}``.

    For a weight ``(D, H)``, ``axis=0`` bounds the weights into each neuron.

    Source: Srivastava et al. 2014, section 5.1.
    """
    above_zero("projections.max_norm", "limit", limit)
    length = norm(x, axis)
    limit = in_dtype(limit, length.dtype)
    factor = limit / jnp.where(length > limit, length, 1)
    return jnp.where(length > limit, (x.astype(length.dtype) * factor).astype(x.dtype), x)


def unit_norm(x: Array, *, axis: int = 0) -> Array:
    """Return ``x / ‖x‖`` for every vector along ``axis``, the projection on ``{y : ‖y‖ = 1}``.

    All unit vectors are equally near to the vector 0; its projection is the vector of equal entries.
    """
    length = norm(x, axis)
    equal = jnp.asarray(x.shape[axis], length.dtype) ** -0.5
    return jnp.where(length > 0, x.astype(length.dtype) / jnp.where(length > 0, length, 1), equal).astype(x.dtype)


def simplex(x: Array, *, total: Scalar = 1.0, axis: int = -1) -> Array:
    """Return ``max(x_i − τ, 0)`` for every vector along ``axis``, the projection on ``{y : y_i ≥ 0, Σ_i y_i = total}``.

    With ``u`` the entries of ``x`` in descending order and ``k`` the largest index with
    ``k u_k > Σ_{j ≤ k} u_j − total``,  ``τ = (Σ_{j ≤ k} u_j − total) / k``.

    Source: Held, Wolfe and Crowder 1974; Duchi et al. 2008, figure 1.
    """
    above_zero("projections.simplex", "total", total)
    last = jnp.moveaxis(x, axis, -1)
    # Adding the same number to all entries does not change the projection.
    last = last - jax.lax.stop_gradient(last.max(-1, keepdims=True))
    u = -jnp.sort(-last, axis=-1)
    excess = jnp.cumsum(u, axis=-1) - in_dtype(total, u.dtype)
    k = jnp.arange(1, u.shape[-1] + 1).astype(u.dtype)
    count = (k * u > excess).sum(-1, keepdims=True)
    threshold = jnp.take_along_axis(excess, count - 1, axis=-1) / count.astype(u.dtype)
    return jnp.moveaxis(jnp.maximum(last - threshold, 0), -1, axis)
