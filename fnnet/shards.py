"""What meshes require: inside ``shard_map`` which axes arrays vary over, and elsewhere how results are divided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

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


def spec_of(a: Any) -> PartitionSpec:
    """Return how an array is divided over the mesh that its type names."""
    return jax.typeof(a).sharding.spec if isinstance(a, jax.Array) else PartitionSpec()


def automatic(function: Callable[..., Any], out: Any, *args: Any) -> Any:
    """Return ``function(*args)``, within which XLA chooses how arrays are divided over the mesh.

    The arrays of a mesh that ``jax.make_mesh`` makes have types that say it, and each operation whose result could be
    divided in several ways wants to be told. Here only the result is told, by ``out``, a tree of specs.
    """
    meshes = [jax.typeof(a).sharding.mesh for a in jax.tree.leaves(args) if isinstance(a, jax.Array)]
    mesh = next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)
    if mesh is None:
        return function(*args)
    shardings = jax.tree.map(lambda s: NamedSharding(mesh, s), out, is_leaf=lambda s: isinstance(s, PartitionSpec))
    return jax.sharding.auto_axes(function, out_sharding=shardings)(*args)
