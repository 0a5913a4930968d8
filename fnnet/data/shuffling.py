"""The order of the examples in an epoch: batches are shuffled here."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnnet.cpu.permutation import permutation
from fnnet.types import Array


def order_of_examples(key: Array, examples: int, shuffle: bool) -> Array:
    """Return ``jax.random.permutation(key, examples)``, the order of an epoch, or ``0, 1, ...`` without ``shuffle``."""
    return permutation(key, examples) if shuffle else jnp.arange(examples)


compiled_order = jax.jit(order_of_examples, static_argnums=(1, 2))
