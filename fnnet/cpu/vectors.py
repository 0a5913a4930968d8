"""Narrow matrices of the state as vectors: a scan carries them so, because XLA's loops on CPU run over the last axis.

XLA computes the optimizer's arithmetic, which is entry by entry, in the shape in which the state is carried. Its loops
over a last axis of 30 leave most of the vector unit idle, those over 16 spend most of their time between two vectors.

Measured as microseconds per step of Adam, plain / as vectors, batches of 10, 2 cores, jax 0.10.2:
Intel Xeon at 2.5 GHz, Cascade Lake, AVX-512: 784-16-10: 124 / 88, 784-30-10: 173 / 141 and 125 / 108; with
``XLA_FLAGS=--xla_cpu_max_isa=AVX2``: 784-16-10: 97 / 75, 784-30-10: 130 / 148. Wider axes lose there (50: 185 / 231,
100: 240 / 358), so they are left alone. AMD EPYC with AVX-512: an epoch of 784-30-10 took 0.35 s / 0.19 to 0.22 s.

Try without it from jax 0.11 on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from fnnet.types import Array

VECTOR_UNIT = 16  # float32 numbers in the widest vector registers
NARROW = 2 * VECTOR_UNIT

Step = Callable[[Any, Any], tuple[Any, Any]]


def scan(step: Step, state: Any, xs: Any) -> tuple[Any, Any]:
    """Return ``jax.lax.scan(step, state, xs)``, computed as ``scan_as_vectors`` on CPU.

    On other platforms a change of shape may cost a copy, or undo the sharding of a matrix.
    """
    on_cpu, elsewhere = partial(scan_as_vectors, step), partial(jax.lax.scan, step)
    return jax.lax.platform_dependent(state, xs, cpu=on_cpu, default=elsewhere)


def scan_as_vectors(
    step: Step, state: Any, steps: Any, scan: Callable[..., tuple[Any, Any]] = jax.lax.scan
) -> tuple[Any, Any]:
    """Return ``scan(step, state, steps)``, with narrow matrices of the state carried from step to step as vectors.

    The numbers are the same except for rounding.
    """

    def narrow(a: Array) -> bool:
        return a.ndim > 1 and a.shape[-1] < NARROW

    def vectors(tree: Any) -> Any:
        return jax.tree.map(lambda a: a.reshape(-1) if narrow(a) else a, tree)

    def matrices(tree: Any) -> Any:
        return jax.tree.map(lambda a, like: a.reshape(like.shape), tree, state)

    def on_vectors(carry: Any, xs: Any) -> tuple[Any, Any]:
        carry, ys = step(matrices(carry), xs)
        return vectors(carry), ys

    carry, ys = scan(on_vectors, vectors(state), steps)
    return matrices(carry), ys
