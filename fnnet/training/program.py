"""A compiled program that says how long it took to compile, and copies of what it takes over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


class Program:
    """``jax.jit(function, **options)``, compiled once for each structure, shapes and dtypes of its arguments.

    ``seconds`` is how long it has compiled. Under ``jax.disable_jit`` the function itself is called.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.function = function
        self.jitted: Any = jax.jit(function, **options)
        self.compiled: dict[Any, Callable[..., Any]] = {}
        self.seconds = self.reported = 0.0

    def __call__(self, *arguments: Any) -> Any:
        if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
            return self.function(*arguments)
        leaves, structure = jax.tree.flatten(arguments)
        kind = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if kind not in self.compiled:
            start = time.perf_counter()
            self.compiled[kind] = self.jitted.lower(*arguments).compile()
            self.seconds += time.perf_counter() - start
        return self.compiled[kind](*arguments)

    def new_seconds(self) -> float:
        """Return the seconds of compiling since the last call."""
        new, self.reported = self.seconds - self.reported, self.seconds
        return new


@jax.jit
def copied(tree: Any) -> Any:
    """Return the arrays in buffers of their own."""
    return jax.tree.map(jnp.copy, tree)
