"""How far to go along a direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet.optimizers.leaves import check_same_trees, full_moments, moment_dtype
from fnnet.types import Array, Params

Objective = Callable[[Params], Array]  # the whole cost as a function of the parameters alone


class Bracket(NamedTuple):
    low: Array  # the longest step known to be downhill enough
    high: Array  # the shortest one known to be too long
    step: Array  # the one to try next, or found
    found: Array
    trial: Array


def wolfe_step(
    along: Callable[[Array], tuple[Array, Array]],
    value: Array,
    slope: Array,
    start: Array,
    *,
    decrease: float = 1e-4,
    curvature: float = 0.9,
    trials: int = 30,
) -> Array:
    """A step ``t`` that meets the weak Wolfe conditions, by doubling and bisection (Lewis and Overton 2013, alg. 2.6).

    ``along(t)`` is the objective ``φ(t)`` along the direction and its slope ``φ'(t)``; ``value`` and ``slope`` those at
    0. Sufficient decrease: ``φ(t) ≤ φ(0) + c₁ t φ'(0)``; where the decrease is below the rounding of ``φ``, instead
    ``φ'(t) ≤ (2c₁ − 1) φ'(0)``, which for a parabola says the same (Hager and Zhang 2005, eq. 4.1). Curvature:
    ``φ'(t) ≥ c₂ φ'(0)``. ``c₁ = decrease``, ``c₂ = curvature``, ``0 < c₁ < c₂ < 1``. After ``trials`` the longest step
    of sufficient decrease, 0 if there was none: never uphill.
    """
    rounding = 8 * jnp.finfo(value.dtype).eps * jnp.abs(value)

    def try_step(bracket: Bracket) -> Bracket:
        t = bracket.step
        there, slope_there = along(t)
        downhill = there <= value + decrease * t * slope
        level = (there <= value + rounding) & (slope_there <= (2 * decrease - 1) * slope)
        enough = downhill | level
        steep = slope_there < curvature * slope
        low, high = jnp.where(enough, t, bracket.low), jnp.where(enough, bracket.high, t)
        middle = jnp.where(jnp.isinf(high), 2 * t, (low + high) / 2)
        found = enough & ~steep
        return Bracket(low, high, jnp.where(found, t, middle), found, bracket.trial + 1)

    def go_on(bracket: Bracket) -> Array:
        return ~bracket.found & (bracket.trial < trials)

    zero = jnp.zeros_like(start)
    first = Bracket(zero, zero + jnp.inf, start, jnp.array(False), jnp.zeros((), jnp.int32))
    bracket = jax.lax.while_loop(go_on, try_step, first)
    return jnp.where(bracket.found, bracket.step, bracket.low)


def as_vector(tree: Params) -> tuple[Array, Callable[[Array], Params]]:
    """All entries of a tree in one vector of at least float32, and the way back, in the leaves' own dtypes."""
    leaves, structure = jax.tree.flatten(tree)
    widest: Any = max((moment_dtype(leaf) for leaf in leaves), key=lambda d: jnp.finfo(d).bits, default=jnp.float32)
    vector = jnp.concatenate([jnp.zeros(0, widest), *(leaf.reshape(-1).astype(widest) for leaf in leaves)])

    def back(vector: Array) -> Params:
        parts, position = [], 0
        for leaf in leaves:
            parts.append(vector[position : position + leaf.size].reshape(leaf.shape).astype(leaf.dtype))
            position += leaf.size
        return jax.tree.unflatten(structure, parts)

    return vector, back


def zero_vector(params: Params) -> Array:
    """A new vector as long as ``as_vector(params)``."""
    return jnp.zeros_like(as_vector(full_moments(params, 0.0))[0])


def vectors(place: str, grads: Params, params: Params) -> tuple[Array, Array, Callable[[Array], Params]]:
    """Gradients and parameters as vectors, and the way back."""
    check_same_trees(place, grads, params)
    theta, back = as_vector(params)
    return as_vector(grads)[0], theta, back


def on_vectors(objective: Objective, back: Callable[[Array], Params]) -> Callable[[Array], Array]:
    """The objective as a function of the vector, in the vector's dtype."""
    return lambda vector: objective(back(vector)).astype(vector.dtype)


def along_direction(
    function: Callable[[Array], Array], theta: Array, direction: Array
) -> Callable[[Array], tuple[Array, Array]]:
    """``φ(t) = f(θ + t d)`` and ``φ'(t)``."""

    def along(t: Array) -> tuple[Array, Array]:
        value, slope = jax.jvp(lambda s: function(theta + s * direction), (t,), (jnp.ones_like(t),))
        return value, slope

    return along
