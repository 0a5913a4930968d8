"""How two results are compared, and how the traces of a compiled function are counted."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Assert equal structures and shapes, and ``max |a − e| ≤ tolerance · max |e|`` for each tensor."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), e in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        name = jax.tree_util.keystr(path)
        assert a.shape == e.shape, name
        assert np.isfinite(e).all(), f"{name}: the expected value is not finite"
        error, scale = np.abs(a - e).max(initial=0), np.abs(e).max(initial=0)
        assert error <= tolerance * scale, f"{name}: off by {error:.2e} at a scale of {scale:.2e}"


def assert_identical(actual: Any, expected: Any) -> None:
    """Assert that two trees have one structure, the same dtypes and the same bits."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(map(raw, jax.tree.leaves(actual)), map(raw, jax.tree.leaves(expected)), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_array_equal(a, e)


def raw(leaf: Any) -> np.ndarray:
    """Return an array in NumPy; of random keys, their data."""
    is_key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


class CountingTraces:
    """A function that counts its calls. Under ``jax.jit`` these are its traces."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.count = function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return self.function(*args, **kwargs)
