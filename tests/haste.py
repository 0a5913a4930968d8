"""Quick compilation, for programs that run once or twice on arrays of a few numbers."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import pytest
from jax._src import compiler

# The newer generator of loops of XLA for CPUs takes half of the time of all compilations. jax 0.11 and later have no
# other. Each worker has one core, so compiling a small program in several threads gains nothing.
OPTIONS = (
    {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
    if jax.__version_info__ < (0, 11)
    else {}
)


def hastily(get_compile_options: Callable[..., Any]) -> Callable[..., Any]:
    """Return jax's function of the compiler's options with those for quick compilation added."""

    def with_options(*arguments: Any, **keywords: Any) -> Any:
        options = get_compile_options(*arguments, **keywords)
        options.env_option_overrides = [*options.env_option_overrides, *OPTIONS.items()]
        return options

    return with_options


@contextmanager
def compiled_in_haste(haste: bool = True) -> Iterator[None]:
    """Compile quickly inside this context or, if ``haste`` is false, as programs of users are compiled."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", haste)
    with pytest.MonkeyPatch.context() as patch:
        if haste:  # jax takes such options for a function or a process, but not for a module
            patch.setattr(compiler, "get_compile_options", hastily(compiler.get_compile_options))
        yield
    jax.config.update("jax_disable_most_optimizations", before)


def environment(devices: int) -> dict[str, str]:
    """Return the environment of a process that compiles quickly and has this number of CPU devices."""
    flags = [os.environ.get("XLA_FLAGS", ""), f"--xla_force_host_platform_device_count={devices}"]
    flags += [f"--{name}={value}".lower() for name, value in OPTIONS.items()]
    own = {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    return dict(os.environ) | own
