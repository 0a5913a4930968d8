"""Settings of every test: nothing is promoted silently, no random key is used twice."""

from collections.abc import Iterator

import jax
import pytest

from tests.haste import compiled_in_haste

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)


# Modules whose tests run long or measure rounding: they need the programs that users run.
OPTIMIZED = ("test_readme", "test_experiments", "test_benchmarks", "test_accuracy_experiment")


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Elsewhere compiling takes nearly all the time, and XLA's optimizations change nothing that is tested."""
    with compiled_in_haste(not request.module.__name__.endswith(OPTIMIZED)):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, so that no worker has one left when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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
