"""Compiling in haste: programs of which each runs once or twice, on arrays of a few numbers."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import pytest
from jax._src import compiler

# XLA's newer generator of loops for CPUs takes half of the time of all compilations; later versions have no other. The
# workers have a core each, where nothing is won by compiling a small program in several threads.
OPTIONS = (
    {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
    if jax.__version_info__ < (0, 11)
    else {}
)


def hastily(get_compile_options: Callable[..., Any]) -> Callable[..., Any]:
    def with_options(*arguments: Any, **keywords: Any) -> Any:
        options = get_compile_options(*arguments, **keywords)
        options.env_option_overrides = [*options.env_option_overrides, *OPTIONS.items()]
        return options

    return with_options


@contextmanager
def compiled_in_haste(haste: bool = True) -> Iterator[None]:
    """What is compiled meanwhile is compiled quickly, or else as the programs of users are."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", haste)
    with pytest.MonkeyPatch.context() as patch:
        if haste:  # jax takes such options for one function or one process, but not for some modules of tests
            patch.setattr(compiler, "get_compile_options", hastily(compiler.get_compile_options))
        yield
    jax.config.update("jax_disable_most_optimizations", before)


def environment(devices: int) -> dict[str, str]:
    """Of a process that compiles in haste, for so many devices of its own."""
    flags = [f"--xla_force_host_platform_device_count={devices}"]
    flags += [f"--{name}={value}".lower() for name, value in OPTIONS.items()]
    own = {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    return dict(os.environ) | own
