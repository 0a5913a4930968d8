"""What an optimizer is, and how optimizers are joined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.types import Params


class Optimizer(NamedTuple):
    """A pair of pure functions.

    ``init(params) -> state`` is a pytree of arrays, no two of which share a buffer.
    ``update(grads, state, params=None) -> (updates, state)`` gives updates of the gradients' structure and dtypes, to
    be added to the parameters with ``apply_updates``.
    """

    init: Callable[[Params], Any]
    update: Callable[..., tuple[Params, Any]]


def apply_updates(params: Params, updates: Params) -> Params:
    """``params + updates``, leaf by leaf, in the dtype of the parameters."""
    return jax.tree.map(lambda p, u: p + jnp.asarray(u).astype(p.dtype), params, updates)


def chain(*optimizers: Optimizer) -> Optimizer:
    """Optimizers and transforms one after the other: the updates of each are the gradients of the next.

    For orthogonal pieces around exactly one algorithm, such as a projection after it: an algorithm turns gradients into
    steps downhill, and two in a chain would turn them uphill again. The state is the tuple of their states.
    """
    checks.require(bool(optimizers), "optimizers.chain: nothing to chain; pass at least one optimizer")

    def init(params: Params) -> tuple[Any, ...]:
        return tuple(optimizer.init(params) for optimizer in optimizers)

    def update(grads: Params, state: tuple[Any, ...], params: Params | None = None) -> tuple[Params, tuple[Any, ...]]:
        states = []
        for optimizer, s in zip(optimizers, state, strict=True):
            grads, s = optimizer.update(grads, s, params)
            states.append(s)
        return grads, tuple(states)

    return Optimizer(init, update)
