"""Work that is one XLA program, with the temporary memory that it needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from experiments.benchmarks.harness import Work


def compiled(function: Callable[..., Any], arguments: tuple[Any, ...], repeats: int) -> Work:
    """Return work that computes ``function(*arguments)`` ``repeats`` times per round.

    The work returns the MiB of temporary memory that one call needs according to XLA's memory analysis, or NaN if XLA
    has no analysis.
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
