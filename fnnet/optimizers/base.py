"""What an optimizer is, and how optimizers are chained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.types import Array, Params


class Optimizer(NamedTuple):
    """A pair of pure functions.

    - ``init(params) -> state`` returns a pytree of arrays, no two of which share a buffer.
    - ``update(grads, state, params=None) -> (updates, state)`` returns updates with the structure and the dtypes of the
      gradients, which ``apply_updates`` adds to the parameters.
    """

    init: Callable[[Params], Any]
    update: Callable[..., tuple[Params, Any]]


class StepState(NamedTuple):
    """The state of an optimizer that keeps nothing but the number of its updates."""

    step: Array


def zero_step() -> Array:
    return jnp.zeros((), jnp.int32)


def apply_updates(params: Params, updates: Params) -> Params:
    """Return ``params + updates``, leaf by leaf, in the dtypes of the parameters."""
    return jax.tree.map(lambda p, u: p + jnp.asarray(u).astype(p.dtype), params, updates)


def chain(*optimizers: Optimizer) -> Optimizer:
    """Return an optimizer that applies several one after the other: the updates of each are the gradients of the next.

    A chain joins exactly one algorithm with transforms before and after it, such as clipping or a projection. Two
    algorithms in one chain would go uphill: each of them turns gradients into steps against the gradient. The state is
    the tuple of the states.
    """
    checks.require(bool(optimizers), "optimizers.chain: there is nothing to chain; pass at least one optimizer")

    def init(params: Params) -> tuple[Any, ...]:
        return tuple(optimizer.init(params) for optimizer in optimizers)

    def update(grads: Params, state: tuple[Any, ...], params: Params | None = None) -> tuple[Params, tuple[Any, ...]]:
        states = []
        for optimizer, s in zip(optimizers, state, strict=True):
            grads, s = optimizer.update(grads, s, params)
            states.append(s)
        return grads, tuple(states)

    return Optimizer(init, update)
