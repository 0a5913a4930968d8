"""A faster ``jax.random.permutation`` on CPU.

XLA's sort on a CPU calls a comparison function for pairs of arrays, but none for plain numbers. The random bits and the
position are therefore packed into one number of 64 bits, which is what gets sorted.

Measured with 60,000 examples and jax 0.10.2, time of the packed form over that of ``jax.random.permutation``:

| processor | ratio |
| --- | --- |
| Intel Xeon at 2.5 GHz (Cascade Lake, AVX-512), 2 cores | 9 ms / 41 ms = 0.22 |
| AMD EPYC with AVX-512, 2 cores | one quarter |

An epoch of MNIST on a 784-30-10 network takes about 250 milliseconds. Try without it from jax 0.11 on.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fnnet.types import Array


def permutation(key: Array, examples: int) -> Array:
    """Return the numbers of ``jax.random.permutation(key, examples)``, computed faster on a CPU."""
    return jax.lax.platform_dependent(
        key, cpu=lambda key: packed(key, examples), default=lambda key: jax.random.permutation(key, examples)
    )


def packed(key: Array, examples: int) -> Array:
    """Sort the positions by random bits, and again by new ones until ``3 log₂ N`` bits are used, as JAX does."""
    order = jnp.arange(examples)
    for _ in range(math.ceil(3 * math.log(examples) / math.log(2**32 - 1))):
        key, round_key = jax.random.split(key)
        with jax.enable_x64(True):
            bits = jax.random.bits(round_key, (examples,), jnp.uint32).astype(jnp.uint64)
            # The position decides between equal bits, as in a stable sort of the bits alone. All numbers differ, so
            # the stable sort gives the same order as any other; XLA sorts it by merging, in two thirds of the time.
            numbers = jax.lax.sort(bits << jnp.uint64(32) | jnp.arange(examples, dtype=jnp.uint64), is_stable=True)
            positions = (numbers & jnp.uint64(2**32 - 1)).astype(jnp.int32)
        order = order[positions]
    return order
