"""Settings of all tests: no dtype is promoted silently, and no random key is used twice."""

from collections.abc import Iterator

import jax
import pytest

from tests.haste import compiled_in_haste

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled programs in pytest's cache: the workers share them, and the next run has them."""
    if hasattr(config, "cache"):
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("programs")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


# The tests of these modules run long or measure rounding. They need the programs that users run.
OPTIMIZED = ("test_readme", "test_experiments", "test_benchmarks", "test_accuracy_experiment")


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """In the other modules nearly all the time goes into compiling, so XLA's optimizations are left out there."""
    with compiled_in_haste(not request.module.__name__.endswith(OPTIMIZED)):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first, so that no worker still has one to do when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def x64() -> Iterator[None]:
    """Enable float64 inside one test, so that equality can be asserted to twelve digits."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def strict_ranks() -> Iterator[None]:
    """Make it an error inside one test to broadcast arrays of different rank."""
    with jax.numpy_rank_promotion("raise"):
        yield
