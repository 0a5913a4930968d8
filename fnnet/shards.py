"""What ``shard_map`` asks of an operation that is not JAX's own."""

from __future__ import annotations

from typing import Any

import jax

from fnnet.types import Array


def varying_alike(*arrays: Array) -> list[Array]:
    """The arrays, varying all over the same axes of the mesh, as operands of one operation and values that a loop
    carries must; outside of ``shard_map``, as they are. Where one is made to vary, its gradient is summed."""
    every = axes_of(arrays)
    return [varying_over(every, a) for a in arrays]


def varying_with(tree: Any, *others: Any) -> Any:
    """The arrays of a tree, varying over every axis of the mesh over which one of them, or of other trees, does: what
    a loop starts from, as it comes out of a step that reads the others."""
    every = axes_of(tree, others)
    return jax.tree.map(lambda a: varying_over(every, a), tree)


def axes_of(*trees: Any) -> frozenset[str]:
    """The axes of the mesh over which any array of the trees varies."""
    axes = (jax.typeof(a).manual_axis_type.varying for a in jax.tree.leaves(trees))
    return frozenset[str]().union(*axes)


def varying_over(axes: frozenset[str], a: Array) -> Array:
    more = axes - axes_of(a)
    return jax.lax.pcast(a, tuple(more), to="varying") if more else a
