"""Settings of every test: nothing is promoted silently, no random key is used twice."""

from collections.abc import Iterator

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture
def x64() -> Iterator[None]:
    """Float64 inside one test: equalities are then asked for to twelve digits."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def strict_ranks() -> Iterator[None]:
    """Arrays of different rank are not broadcast inside one test."""
    with jax.numpy_rank_promotion("raise"):
        yield
