"""Euclidean norms whose squares neither overflow nor underflow."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnnet.checks import at_least_float32
from fnnet.types import Array, Params

__all__ = ["global_norm", "norm"]


def norm(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Return ``‖x‖₂`` over ``axis``, which is kept with length 1, or over all entries, which gives a scalar.

    The entries are divided by the largest of them before they are squared, or by a power of two close to it where its
    reciprocal, by which XLA multiplies instead, would be 0 or infinite. The dtype is that of ``x``, but at least
    float32. A norm over NaN is NaN; a norm over an infinite entry is infinite.
    """
    x = x.astype(at_least_float32(x))
    keep = axis is not None
    limits = jnp.finfo(x.dtype)
    low, high = (2.0 ** int(0.8 * exponent) for exponent in (limits.minexp, limits.maxexp))
    scale = jax.lax.stop_gradient(jnp.clip(jnp.abs(x).max(axis, keepdims=keep, initial=0), low, high))
    return scale * jnp.sqrt(jnp.square(x / scale).sum(axis, keepdims=keep))


def global_norm(tree: Params) -> Array:
    """Return ``‖(...)‖₂`` of all leaves together, in the widest dtype among them and at least float32."""
    leaves = jax.tree.leaves(tree)
    widest = at_least_float32(*leaves)
    return norm(jnp.stack([norm(leaf).astype(widest) for leaf in leaves])) if leaves else jnp.zeros((), widest)
