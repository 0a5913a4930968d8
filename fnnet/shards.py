"""What ``shard_map`` requires of an operation that JAX does not know: which mesh axes its arrays vary over."""

from __future__ import annotations

from typing import Any

import jax

from fnnet.types import Array


def varying_alike(*arrays: Array) -> list[Array]:
    """Return the arrays varying over the same axes of the mesh, as the operands of one operation must.

    Outside of ``shard_map`` they stay as they are. The gradient of an array that is made to vary is summed.
    """
    every = axes_of(arrays)
    return [varying_over(every, a) for a in arrays]


def varying_with(tree: Any, *others: Any) -> Any:
    """Return a tree whose arrays vary over every mesh axis over which one of them, or one of the others, varies.

    A loop whose step reads the others must start from it.
    """
    every = axes_of(tree, others)
    return jax.tree.map(lambda a: varying_over(every, a), tree)


def axes_of(*trees: Any) -> frozenset[str]:
    """Return the axes of the mesh over which any array of the trees varies."""
    axes = (jax.typeof(a).manual_axis_type.varying for a in jax.tree.leaves(trees))
    return frozenset[str]().union(*axes)


def varying_over(axes: frozenset[str], a: Array) -> Array:
    more = axes - axes_of(a)
    return jax.lax.pcast(a, tuple(more), to="varying") if more else a
