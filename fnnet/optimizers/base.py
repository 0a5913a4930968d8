"""What an optimizer is, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.types import Array, DType, Hyperparameter, Params, Scalar


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


def value_at(hyperparameter: Hyperparameter, step: Array) -> Scalar:
    """A hyper-parameter's value at ``step``: of a schedule, its value there; else the number itself."""
    return hyperparameter(step) if callable(hyperparameter) else hyperparameter


def in_dtype(value: Scalar, dtype: DType) -> Scalar:
    """A scalar that multiplies arrays of ``dtype`` without promoting them. Python numbers do so as they are.

    ``np.float64`` is a Python float, but to jax a strongly typed array: hence ``float``.
    """
    return float(value) if isinstance(value, (int, float)) else jnp.asarray(value).astype(dtype)


def moment_dtype(leaf: Any) -> DType:
    """The dtype of a leaf's moments: its own, but at least float32.

    In bfloat16 a factor of 0.999 rounds to 1 and a moment would never decay.
    """
    return leaf.dtype if jnp.finfo(leaf.dtype).bits >= 32 else jnp.float32


def zero_moments(params: Params) -> Params:
    """A new tree of zeros with the shapes of ``params`` in ``moment_dtype``. Call it once for each moment."""
    return jax.tree.map(lambda p: jnp.zeros(p.shape, moment_dtype(p)), params)


def zero_step() -> Array:
    return jnp.zeros((), jnp.int32)


def check_rate(place: str, learning_rate: Hyperparameter) -> None:
    checks.in_range(place, "learning_rate", learning_rate, 0, float("inf"), open_high=True)
