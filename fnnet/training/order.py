"""The order of the examples in an epoch."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fnnet.types import Array


def shuffled(key: Array, examples: int) -> Array:
    """``jax.random.permutation(key, examples)``, the same numbers in a quarter of the time on CPU.

    That sorts the positions by random numbers of 32 bits, and again by new ones until ``3 log₂ N`` bits are used.
    XLA's sort on CPU calls a function for every comparison of pairs, but none for plain numbers: hence number and
    position are one number of 64 bits.
    """
    return jax.lax.platform_dependent(
        key, cpu=lambda key: packed(key, examples), default=lambda key: jax.random.permutation(key, examples)
    )


def packed(key: Array, examples: int) -> Array:
    order = jnp.arange(examples)
    for _ in range(math.ceil(3 * math.log(examples) / math.log(2**32 - 1))):
        key, of_round = jax.random.split(key)
        with jax.enable_x64(True):
            bits = jax.random.bits(of_round, (examples,), jnp.uint32).astype(jnp.uint64)
            # All numbers differ, ties of the bits are decided by position: as a stable sort of the bits would. For the
            # stable sort of the numbers, which is no other here, XLA merges: two thirds of the time of its quicksort.
            numbers = jax.lax.sort(bits << jnp.uint64(32) | jnp.arange(examples, dtype=jnp.uint64), is_stable=True)
            places = (numbers & jnp.uint64(2**32 - 1)).astype(jnp.int32)
        order = order[places]
    return order
