"""Products with a factor of 0, as they stand in the losses: ``0 log 0 = 0``.

Each guards the factor that is infinite, and only where the other one is 0. A target of 0 therefore has the derivative
that the formula says, and the derivative with respect to the infinite factor is 0 instead of ``0 · ∞``, which is NaN.
"""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.types import Array


def product(t: Array, x: Array) -> Array:
    """Return ``t x``; where ``t`` is 0 and ``x`` infinite, the product and its derivatives are 0."""
    return t * jnp.where((t == 0) & jnp.isinf(x), 0, x)


def times_log(t: Array, p: Array) -> Array:
    """Return ``t log p``; where both are 0, the product and its derivatives are 0."""
    return t * jnp.log(jnp.where((t == 0) & (p == 0), 1, p))


def ratio(t: Array, p: Array) -> Array:
    """Return ``t / p``, the derivative of ``t log p``; where both are 0, it is 0."""
    return t / jnp.where((t == 0) & (p == 0), 1, p)
