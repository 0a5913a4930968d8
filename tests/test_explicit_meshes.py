"""Training on batches that are divided over a mesh with explicit axes, as ``jax.make_mesh`` makes it.

The types of such arrays say how they are divided, and tracing fails where an operation does not know how to divide its
result. Nothing is compiled or run, so no devices are needed.
"""

from typing import Any

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from fnnet import Cost, TrainState, backprop, losses, optimizers, penalties, train_step, transformer_block
from tests.cases import ONE_OF_EACH, LayerCase

MESH = AbstractMesh((4,), ("examples",), axis_types=(AxisType.Explicit,))
BLOCK = LayerCase("transformer_block", lambda: transformer_block(2, 4, causal=True, rotary=True), (2, 3, 4))
ENGINES = {"autodiff": jax.value_and_grad, "by hand": backprop.value_and_grad}


def divided(tree: Any, *axes: str) -> Any:
    spec = NamedSharding(MESH, PartitionSpec(*axes))
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=spec), tree)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", [*ONE_OF_EACH, BLOCK], ids=str)
def test_every_layer_trains(case: LayerCase, engine: str) -> None:
    layer, x, params = case.build(), case.x("float32"), case.params("float32")
    x = jax.ShapeDtypeStruct((4 * x.shape[0], *x.shape[1:]), x.dtype)
    y = jax.eval_shape(lambda p, x: layer.apply(p, x, **case.options()), params, x)
    penalty = penalties.l2(0.1) if any(p.ndim > 1 for p in jax.tree.leaves(params)) else None
    cost, optimizer = Cost(layer, losses.squared_error, penalty), optimizers.adam()
    batch = divided((x, y), "examples")
    state = jax.eval_shape(lambda p: TrainState.create(p, optimizer, jax.random.key(0)), params)
    after, metrics = jax.eval_shape(train_step(cost, optimizer, ENGINES[engine]), divided(state), batch)
    for leaf in jax.tree.leaves((after.params, after.opt_state, metrics["cost"])):
        assert set(leaf.sharding.spec) <= {None}  # the same on every device
