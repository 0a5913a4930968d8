"""The tricks for XLA on CPU compute what the plain expression computes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, losses, sequential, tanh
from fnnet.cpu import memory, narrow, vectors
from tests.cases import random_like, random_params
from tests.compare import assert_close


@pytest.mark.usefixtures("x64")
def test_a_scan_of_vectors_is_a_scan() -> None:
    state = random_like({"narrow": jnp.zeros((4, 10)), "wide": jnp.zeros((3, 64)), "vector": jnp.zeros(5)})

    def step(state: Any, x: Any) -> Any:
        after = jax.tree.map(lambda a: jnp.tanh(a + x), state)
        return after, after["narrow"] @ jnp.ones(10)

    carried = []

    def recorded(step: Any, state: Any, xs: Any) -> Any:
        carried.append(jax.tree.map(jnp.shape, state))
        return jax.lax.scan(step, state, xs)

    expected = jax.lax.scan(step, state, jnp.arange(3.0))
    assert_close(jax.jit(lambda state: vectors.scan(step, state, jnp.arange(3.0)))(state), expected)
    assert_close(vectors.scan_as_vectors(step, state, jnp.arange(3.0), recorded), expected)
    assert carried == [{"narrow": (40,), "wide": (3, 64), "vector": (5,)}]


@pytest.mark.parametrize("shape", [(), (3,), (5, 7)])
def test_memory_is_aligned(shape: tuple[int, ...]) -> None:
    for _ in range(5):
        a = memory.aligned(shape, np.float32)
        assert a.shape == shape
        assert a.dtype == np.float32
        assert a.ctypes.data % memory.ALIGNMENT == 0
        a[...] = 1


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("inputs", [2, 7])
@pytest.mark.usefixtures("x64")
def test_narrow_networks_have_the_gradients_of_autodiff(inputs: int, use_bias: bool) -> None:
    model = sequential(Dense(5, use_bias=use_bias), tanh, Dense(3))
    x, y = random_like(jnp.zeros((4, inputs))), jnp.array([0, 2, 1, 1])
    cost = Cost(model, losses.softmax_cross_entropy)
    params = jax.tree.map(lambda a: jnp.stack([a, jnp.cos(a)]), random_params(model, x))

    def over_networks(value_and_grad: Any) -> Any:
        return jax.jit(jax.vmap(value_and_grad(cost), (0, None)))(params, (x, y))

    assert_close(over_networks(narrow.value_and_grad), over_networks(jax.value_and_grad))
