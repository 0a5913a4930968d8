"""The shuffle: JAX's own permutation, made in another way."""

import jax
import numpy as np
import pytest

from fnnet.cpu.permutation import permutation
from tests.training.problems import key


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("examples", [1, 2, 7, 3000])  # 3,000 are sorted twice
def test_the_order_is_that_of_jax(examples: int, x64: bool) -> None:
    with jax.enable_x64(x64):
        for seed in range(3):
            found = jax.jit(permutation, static_argnums=1)(key(seed), examples)
            expected = jax.random.permutation(key(seed), examples)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


def test_many_orders_at_once() -> None:
    keys = jax.random.split(key(), 3)
    together = jax.jit(jax.vmap(lambda key: permutation(key, 50)))(keys)
    np.testing.assert_array_equal(together, [jax.random.permutation(key, 50) for key in jax.random.clone(keys)])
