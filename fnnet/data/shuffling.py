"""The order of the examples in an epoch: batches are shuffled here."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnnet.cpu.permutation import permutation
from fnnet.types import Array


def order_of_examples(key: Array, examples: int, shuffle: bool) -> Array:
    """Return the numbers of the examples in the order of an epoch.

    They are ``jax.random.permutation(key, examples)``, or ``0, 1, ...`` without ``shuffle``.
    """
    return permutation(key, examples) if shuffle else jnp.arange(examples)


compiled_order = jax.jit(order_of_examples, static_argnums=(1, 2))
