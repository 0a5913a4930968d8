"""What ``shard_map`` asks of an operation that is not JAX's own."""

from __future__ import annotations

import jax

from fnnet.types import Array


def varying_alike(*arrays: Array) -> list[Array]:
    """The arrays, varying all over the same axes of the mesh, as operands of one operation and values that a loop
    carries must; outside of ``shard_map``, as they are. Where one is made to vary, its gradient is summed."""
    axes = [jax.typeof(a).manual_axis_type.varying for a in arrays]
    every = frozenset[str]().union(*axes)
    return [
        jax.lax.pcast(a, tuple(every - own), to="varying") if every - own else a
        for a, own in zip(arrays, axes, strict=True)
    ]
