"""Questions to all leaves of a tree: whether they are finite, and the dtype that holds their sums."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fnnet.checks import at_least_float32
from fnnet.trees import all_finite


@pytest.mark.parametrize(
    ("tree", "finite"),
    [
        ({}, True),
        ({"w": [1.0, 2.0], "n": [3]}, True),
        ({"w": [1.0, float("nan")], "n": [3]}, False),
        (([1.0], {"b": [float("-inf")]}), False),
    ],
)
def test_all_finite(tree: Any, finite: bool) -> None:
    arrays = jax.tree.map(jnp.asarray, tree, is_leaf=lambda value: isinstance(value, list))
    assert bool(all_finite(arrays)) == finite
    assert bool(jax.jit(all_finite)(arrays)) == finite


@pytest.mark.usefixtures("x64")
def test_the_widest_dtype_is_at_least_float32() -> None:
    low, single, double = (jnp.zeros(1, dtype) for dtype in ("bfloat16", "float32", "float64"))
    assert at_least_float32() == at_least_float32(low) == at_least_float32(low, single) == "float32"
    assert at_least_float32(low, double, single) == "float64"
