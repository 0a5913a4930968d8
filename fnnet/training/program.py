"""The compiled program of a chunk of updates, and copies of what it takes over."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from fnnet.cost import Cost
from fnnet.data.augment import Augmentation
from fnnet.data.chunks import Chunk
from fnnet.optimizers import Optimizer
from fnnet.training.chunk import Numbers, train_chunk
from fnnet.training.placement import Placement
from fnnet.training.state import TrainState
from fnnet.training.step import Measure, Probe

KEPT = 8  # programs


class Program:
    """``jax.jit(function, **options)``, compiled once for each structure, shapes and dtypes of its arguments.

    ``seconds`` is how long it has compiled. Under ``jax.disable_jit`` the function itself is called.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.function = function
        self.jitted: Any = jax.jit(function, **options)
        self.compiled: dict[Any, Callable[..., Any]] = {}
        self.seconds = 0.0

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


def chunk_program(*made_of: Any) -> Program:
    """Return the compiled ``train_chunk``, the one of an earlier run if that was made of equal things.

    The arguments are those of ``new_program``. The last few programs are kept.
    """
    try:
        return kept_program(*made_of)
    except TypeError:  # a model of the user's own that cannot be hashed
        return new_program(*made_of)


def new_program(
    cost: Cost,
    optimizer: Optimizer,
    value_and_grad: Callable[[Any], Callable[..., Any]],
    measure: Measure | None,
    augment: Augmentation | None,
    placement: Placement,
    settings: tuple[Any, ...],
    *probes: Probe,
) -> Program:
    """Return the compiled ``train_chunk``. It depends on JAX's ``settings`` of the time, too."""
    engine = placement.engine(value_and_grad)
    train = train_chunk(cost, optimizer, value_and_grad=engine, measure=measure, augment=augment, probes=probes)

    def run(state: TrainState, chunk: Chunk) -> tuple[TrainState, Numbers]:
        state, numbers = train(state, chunk)
        state = jax.lax.with_sharding_constraint(state, placement.of_state(state))
        return state, jax.lax.with_sharding_constraint(numbers, placement.replicated)

    # The state is taken over: what must outlive a chunk is copied by ``fit``, and nowhere else.
    return Program(run, donate_argnums=0)


kept_program = lru_cache(KEPT)(new_program)


def settings_of_jax() -> tuple[Any, ...]:
    """Return the settings of JAX that change what a function compiles to."""
    config: Any = jax.config
    return (
        config.jax_enable_x64,
        config.jax_default_matmul_precision,
        config.jax_numpy_dtype_promotion,
        config.jax_threefry_partitionable,
        config.jax_debug_nans,
    )


@jax.jit
def copied(tree: Any) -> Any:
    """Return the arrays in buffers of their own."""
    return jax.tree.map(jnp.copy, tree)
