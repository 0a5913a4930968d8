"""Work that is one program of XLA's, with the temporary memory that it needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from experiments.benchmarks.harness import Work


def compiled(function: Callable[..., Any], arguments: tuple[Any, ...], repeats: int) -> Work:
    """A round computes ``function(*arguments)`` so many times and returns the MiB of temporary memory that one needs.

    That is as XLA's memory analysis of the compiled program has it, NaN where nobody knows.
    """
    import jax
    import jax.numpy as jnp

    arguments = jax.tree.map(jnp.asarray, arguments)
    program = jax.jit(function).lower(*arguments).compile()
    memory = program.memory_analysis()
    temporary = math.nan if memory is None else memory.temp_size_in_bytes / 2**20

    def work() -> float:
        for _ in range(repeats):
            jax.block_until_ready(program(*arguments))
        return temporary

    return work
