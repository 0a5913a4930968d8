"""A command line for modules that have a frozen dataclass ``Config`` and a function ``run(config)``."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import jax
import tyro
from rich.console import Console
from rich.table import Table


class ExperimentError(Exception):
    """An error that the command line shows as its message, without a traceback."""


def main(
    program: str, modules: Mapping[str, str], default: str | None = None, arguments: Sequence[str] | None = None
) -> int:
    """Run ``NAME [--option value ...]`` and return the exit status.

    The status is what ``run`` returned, 1 after an ``ExperimentError``, and 2 if there is no such name. ``modules``
    maps each name to the module that it runs; ``default`` is the name that is used when none is given.
    """
    name, *options = list(sys.argv[1:] if arguments is None else arguments) or [default or "list"]
    if name in ("list", "--help", "-h"):
        list_modules(program, modules)
        return 0
    if name not in modules:
        close = difflib.get_close_matches(name, modules, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the names are {', '.join(modules)}."
        print(f"{program}: there is no {name!r}; {hint} See `{program} list`.", file=sys.stderr)
        return 2
    module = import_module(modules[name])
    config = tyro.cli(module.Config, prog=f"{program} {name}", description=module.__doc__, args=options)
    try:
        return int(module.run(config) or 0)
    except ExperimentError as error:
        print(f"{program} {name}: {error}", file=sys.stderr)
        return 1


def keep_compiled_programs() -> None:
    """Keep compiled programs on disk from now on, so that the next process need not compile them again.

    They are kept in ``fnnet/compiled`` of the user's cache directory, or in ``JAX_COMPILATION_CACHE_DIR``.
    ``JAX_ENABLE_COMPILATION_CACHE=false`` turns this off.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "fnnet" / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def list_modules(program: str, modules: Mapping[str, str]) -> None:
    """Print each name with the first line of its module's docstring."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, path in modules.items():
        table.add_row(f"[bold]{name}[/]", (import_module(path).__doc__ or "").strip().splitlines()[0])
    console = Console()
    console.print(f"{program} NAME [--option value ...]\n", markup=False, highlight=False)
    console.print(table)
