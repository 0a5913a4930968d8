"""Run a layer whose examples are sharded over devices."""

from typing import Any

import jax
import numpy as np

from fnnet import backprop
from fnnet.types import Layer


def assert_sharded_alike(layer: Layer, x: jax.Array) -> None:
    """Assert that a layer and its rule give the same numbers inside ``jax.shard_map`` as outside.

    The mesh has one device. The test is that both can be traced there, under the checks of what varies over devices.
    """
    params = layer.init(jax.random.key(0), x)
    mesh = jax.make_mesh((1,), ("examples",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, every = jax.sharding.PartitionSpec("examples"), jax.sharding.PartitionSpec()

    def local(params: Any, x: Any) -> Any:
        y, pullback = backprop.vjp(layer, params, x)
        return y, pullback(y)[1], jax.grad(lambda x: (layer.apply(params, x) ** 2).sum() / 2)(x)

    sharded = jax.shard_map(local, mesh=mesh, in_specs=(every, rows), out_specs=rows)
    y, by_hand, by_autodiff = jax.jit(sharded)(params, x)
    np.testing.assert_allclose(y, layer.apply(params, x), rtol=1e-5)
    np.testing.assert_allclose(by_hand, by_autodiff, rtol=1e-5, atol=1e-6)
