"""A scan whose narrow matrices are carried as vectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from fnnet.types import Array

VECTOR_UNIT = 16  # float32 numbers in the widest vector registers


def scan(step: Callable[[Any, Any], tuple[Any, Any]], state: Any, xs: Any) -> tuple[Any, Any]:
    """Return ``jax.lax.scan(step, state, xs)``; on a CPU, narrow matrices of the state are carried as vectors."""
    return jax.lax.platform_dependent(
        state, xs, cpu=partial(scan_as_vectors, step), default=partial(jax.lax.scan, step)
    )


def scan_as_vectors(step: Callable[[Any, Any], tuple[Any, Any]], state: Any, xs: Any) -> tuple[Any, Any]:
    def narrow(a: Array) -> bool:
        return a.ndim > 1 and (a.shape[-1] % VECTOR_UNIT > 0 or a.shape[-1] == VECTOR_UNIT)

    def vectors(tree: Any) -> Any:
        return jax.tree.map(lambda a: a.reshape(-1) if narrow(a) else a, tree)

    def matrices(tree: Any) -> Any:
        return jax.tree.map(lambda a, like: a.reshape(like.shape), tree, state)

    def on_vectors(carry: Any, x: Any) -> tuple[Any, Any]:
        carry, y = step(matrices(carry), x)
        return vectors(carry), y

    carry, ys = jax.lax.scan(on_vectors, vectors(state), xs)
    return matrices(carry), ys
