"""Measure the time from the start of a process to its first update: importing, building, compiling and one step.

Each measurement has its own process. ``cold`` starts with an empty persistent compilation cache, ``warm`` with the
cache that the cold process filled. PyTorch, eager, has no such cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from experiments.benchmarks.mlp_task import Task


class Start(NamedTuple):
    """The seconds of the two stages of a start."""

    importing: float
    first_update: float


def measure_starts(task: Task, announce: Callable[[str], None]) -> dict[str, Start]:
    """Return the start of each contender and state of the cache; contenders that are not installed are skipped."""
    task = replace(task, examples=task.batch_size)  # an epoch of one update
    starts = {}
    with TemporaryDirectory() as folder:
        for name in PREPARE:
            for cache in ("cold", "warm") if name != "pytorch" else ("no cache",):
                announce(f"start of {name}, {cache}")
                with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
                    try:
                        starts[f"{name}, {cache}"] = pool.submit(start_of, name, task, Path(folder) / name).result()
                    except ImportError:
                        continue
    return starts


def start_of(name: str, task: Task, cache: Path) -> Start:
    """Measure a start in this process, which must have imported nothing but NumPy."""
    from experiments.benchmarks.mlp_contenders import flax_linen
    from experiments.benchmarks.training_contenders import fnnet_memory, pytorch

    start = time.perf_counter()
    PREPARE[name](cache)
    imported = time.perf_counter()
    {"fnnet": fnnet_memory, "flax-optax": flax_linen, "pytorch": pytorch}[name](task)()
    return Start(imported - start, time.perf_counter() - imported)


def import_fnnet(cache: Path) -> None:
    import fnnet  # noqa: F401

    use_cache(cache)


def import_flax(cache: Path) -> None:
    import optax  # noqa: F401
    from flax import linen  # noqa: F401

    use_cache(cache)


def import_torch(cache: Path) -> None:
    import torch  # noqa: F401


def use_cache(folder: Path) -> None:
    """Cache every compiled program in the folder, however small it is."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


PREPARE: dict[str, Callable[[Path], Any]] = {"fnnet": import_fnnet, "flax-optax": import_flax, "pytorch": import_torch}
