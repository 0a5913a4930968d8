"""The line search of the whole-batch algorithms, and their objective as a function of one vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers.leaves import as_vector, check_same_trees, full_moments, params_given
from fnnet.types import Array, Params

Objective = Callable[[Params], Array]  # the whole cost as a function of the parameters alone


class Bracket(NamedTuple):
    low: Array  # the longest step known to decrease the objective enough
    high: Array  # the shortest step known to be too long
    step: Array  # the step to try next, or the one that was found
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
    """Return a step ``t`` that meets the weak Wolfe conditions, by doubling and bisection from ``start``.

    ``along(t)`` returns the objective ``φ(t)`` along the direction and its slope ``φ'(t)``; ``value = φ(0)`` and
    ``slope = φ'(0)``. With ``c₁ = decrease`` and ``c₂ = curvature``, ``0 < c₁ < c₂ < 1``, the conditions are

    - sufficient decrease: ``φ(t) ≤ φ(0) + c₁ t φ'(0)``, or, where the decrease is smaller than the rounding of ``φ``,
      ``φ'(t) ≤ (2c₁ − 1) φ'(0)``, which is equivalent for a parabola (Hager and Zhang 2005, eq. 4.1);
    - curvature: ``φ'(t) ≥ c₂ φ'(0)``.

    After ``trials`` trials it returns the longest step of sufficient decrease, or 0 if there was none, so that the
    objective never grows.

    Source: Lewis and Overton 2013, algorithm 2.6.
    """
    rounding = 8 * jnp.finfo(value.dtype).eps * jnp.abs(value)

    def try_step(bracket: Bracket) -> Bracket:
        t = bracket.step
        value_at_t, slope_at_t = along(t)
        lower = value_at_t <= value + decrease * t * slope
        level = (value_at_t <= value + rounding) & (slope_at_t <= (2 * decrease - 1) * slope)
        enough = lower | level
        steep = slope_at_t < curvature * slope
        low, high = jnp.where(enough, t, bracket.low), jnp.where(enough, bracket.high, t)
        middle = jnp.where(jnp.isinf(high), 2 * t, (low + high) / 2)
        found = enough & ~steep
        return Bracket(low, high, jnp.where(found, t, middle), found, bracket.trial + 1)

    def goes_on(bracket: Bracket) -> Array:
        return ~bracket.found & (bracket.trial < trials)

    zero = jnp.zeros_like(start)
    first = Bracket(zero, zero + jnp.inf, start, jnp.array(False), jnp.zeros((), jnp.int32))
    bracket = jax.lax.while_loop(goes_on, try_step, first)
    return jnp.where(bracket.found, bracket.step, bracket.low)


def check_wolfe(caller: str, decrease: float, curvature: float) -> None:
    checks.require(
        0 < decrease < curvature < 1,
        f"{caller}: decrease is {decrease} and curvature is {curvature}; expected 0 < decrease < curvature < 1",
    )


def zero_vector(params: Params) -> Array:
    """Return a new vector of zeros as long as ``as_vector(params)``."""
    return jnp.zeros_like(as_vector(full_moments(params, 0.0))[0])


def vectors(caller: str, grads: Params, params: Params | None) -> tuple[Array, Array, Callable[[Array], Params]]:
    """Return the gradients and the parameters as vectors, and the function from a vector to a tree of parameters."""
    params = params_given(caller, params)
    check_same_trees(caller, grads, params)
    theta, back = as_vector(params)
    return as_vector(grads)[0], theta, back


def on_vectors(objective: Objective, back: Callable[[Array], Params]) -> Callable[[Array], Array]:
    """Return the objective as a function of the vector, in the dtype of the vector."""
    return lambda vector: objective(back(vector)).astype(vector.dtype)


def along_direction(
    function: Callable[[Array], Array], theta: Array, direction: Array
) -> Callable[[Array], tuple[Array, Array]]:
    """Return the function from ``t`` to ``φ(t) = f(θ + t d)`` and ``φ'(t)``."""

    def along(t: Array) -> tuple[Array, Array]:
        value, slope = jax.jvp(lambda s: function(theta + s * direction), (t,), (jnp.ones_like(t),))
        return value, slope

    return along
