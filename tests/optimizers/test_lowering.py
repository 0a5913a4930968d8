"""Every optimizer can be lowered for a CPU, a GPU and a TPU, on a machine that has none of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import export

from fnnet import Optimizer
from fnnet.optimizers import (
    add_noise,
    dynamic_loss_scale,
    freeze,
    gauss_newton,
    groups,
    layerwise,
    newton,
    proximal_l1,
    restrict,
    scale,
    sgd,
)
from tests.cases.optimizers import KINDS, tree
from tests.optimizers.test_full_batch import OF_OBJECTIVE, distances
from tests.optimizers.test_transforms import TRANSFORMS
from tests.optimizers.test_wrappers import WRAPPERS

PLATFORMS = ["cpu", "cuda", "tpu"]


def objective(params: Any) -> jax.Array:
    return 0.5 * jnp.square(distances(params)).sum()


OTHERS: dict[str, Optimizer] = {
    "add_noise": add_noise(jax.random.key(0)),
    "proximal_l1": proximal_l1(1e-3, 0.1),
    "freeze": freeze(lambda name: name == "0.w"),
    "groups": groups(lambda name: name[0], {"0": sgd(0.1), "1": freeze()}),
    "layerwise": layerwise(lambda name: 0.5),
    "restrict": restrict(scale(0.5), lambda name: name == "0.w"),
}
MADE: dict[str, dict[str, Optimizer]] = {
    "algorithms": {case.name: case.make(0.1) for case in KINDS},
    "whole batch": {name: make(objective) for name, make in OF_OBJECTIVE.items()}
    | {"newton, saddle-free": newton(objective, saddle_free=True), "gauss_newton, undamped": gauss_newton(distances)},
    "transforms": {name: transform for name, (transform, _) in TRANSFORMS.items()} | OTHERS,
    "wrappers": WRAPPERS | {"dynamic_loss_scale": dynamic_loss_scale(sgd(0.1))},
}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_updates_are_lowered_for_every_platform(kind: str, dtype: str) -> None:
    params = jax.eval_shape(lambda: tree(dtype))
    states = {name: jax.eval_shape(optimizer.init, params) for name, optimizer in MADE[kind].items()}

    def update(grads: Any, states: Any, params: Any) -> Any:
        return {name: optimizer.update(grads, states[name], params) for name, optimizer in MADE[kind].items()}

    exported = export.export(jax.jit(update), platforms=PLATFORMS)(params, states, params)
    assert list(exported.platforms) == PLATFORMS


def test_what_a_platform_lacks_is_not_lowered() -> None:
    """The eigenvalues of a general matrix are not available on TPUs, so lowering does fail where it must."""
    matrix = jax.ShapeDtypeStruct((2, 2), jnp.float32)
    with pytest.raises(NotImplementedError, match="tpu"):
        export.export(jax.jit(jnp.linalg.eigvals), platforms=["tpu"])(matrix)
