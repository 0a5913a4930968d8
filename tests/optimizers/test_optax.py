"""The protocol is that of optax: the optimizers of either library work in the loops and chains of the other."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnnet
from fnnet import optimizers
from tests.cases.optimizers import ALGORITHMS, gradients_for, tree
from tests.compare import assert_close


@pytest.fixture(autouse=True)
def standard_promotion() -> Iterator[None]:
    """optax multiplies integers with Python numbers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("x64")
def test_every_optimizer_in_a_chain_and_loop_of_optax() -> None:
    """``optax.chain``, ``optax.apply_updates`` and a wrapper of optax do not change the steps."""
    params = tree(jnp.float64)
    gradients = gradients_for(params, 3)
    made = {case.name: optax.chain(optax.clip(0.5), optax.apply_if_finite(case.make(0.1), 5)) for case in ALGORITHMS}

    def step(carry: Any, g: Any) -> Any:
        after = {}
        for name, (params, state) in carry.items():
            updates, state = made[name].update(g, state, params)
            after[name] = optax.apply_updates(params, updates), state
        return after, None

    start = {name: (params, optimizer.init(params)) for name, optimizer in made.items()}
    found = jax.jit(lambda start, gradients: jax.lax.scan(step, start, gradients)[0])(start, gradients)
    clipped = jax.tree.map(lambda g: jnp.clip(g, -0.5, 0.5), gradients)
    for case in ALGORITHMS:
        path = case.expected(params, clipped, 0.1)
        assert_close(found[case.name][0], jax.tree.map(lambda p: p[-1], path))


@pytest.mark.parametrize(
    "wrapped",
    [
        optimizers.skip_non_finite(optax.adam(0.1)),
        optimizers.accumulate(optax.sgd(0.1, momentum=0.9), 2),
        optimizers.lookahead(optax.adamw(0.1), 2),
        optimizers.average_parameters(optax.chain(optax.clip_by_global_norm(1.0), optax.rmsprop(0.1)), 0.9),
        fnnet.chain(optimizers.clip_by_value(1.0), optax.lion(0.1)),
        optimizers.groups(lambda name: name[0], {"0": optax.adam(0.1), "1": optimizers.adam(0.1)}),
    ],
    ids=["skip", "accumulate", "lookahead", "average", "chain", "groups"],
)
def test_optimizers_of_optax_in_wrappers(wrapped: Any) -> None:
    params = tree(jnp.float32)
    state = jax.eval_shape(wrapped.init, params)
    updates, after = jax.eval_shape(wrapped.update, params, state, params)
    assert jax.tree.map(lambda u: (u.shape, u.dtype), updates) == jax.tree.map(lambda p: (p.shape, p.dtype), params)
    assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.usefixtures("x64")
def test_adam_of_optax_in_fit() -> None:
    """Training with it gives the same parameters."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((24, 3))
    data = (x, x @ np.array([[1.0], [-2.0], [0.5]]))
    cost = fnnet.Cost(fnnet.Dense(1), fnnet.losses.squared_error)
    params = cost.model.init(jax.random.key(0), x)
    found = []
    for optimizer in (optax.adam(0.05), optimizers.adam(0.05)):
        result = fnnet.fit(cost, optimizer, params, data, key=jax.random.key(1), epochs=3, batch_size=8)
        found.append(result.state.params)
    assert_close(*found)
