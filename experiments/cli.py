"""The command line of a table of modules, each with a frozen dataclass ``Config`` and a function ``run(config)``."""

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
    """What went wrong, said to the person at the command line: shown without a traceback."""


def main(
    program: str, modules: Mapping[str, str], default: str | None = None, arguments: Sequence[str] | None = None
) -> int:
    """Run ``NAME [--option value ...]`` and return the exit status: what ``run`` returned, 2 for a bad command line.

    ``modules`` maps a name to the module that it runs; ``default`` is the name taken when none is given.
    """
    name, *options = list(sys.argv[1:] if arguments is None else arguments) or [default or "list"]
    if name in ("list", "--help", "-h"):
        list_modules(program, modules)
        return 0
    if name not in modules:
        close = difflib.get_close_matches(name, modules, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(modules)}."
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
    """From here on, compiled programs are kept on disk, so that the next process need not compile them again.

    In ``fnnet/compiled`` of the user's cache directory, or where ``JAX_COMPILATION_CACHE_DIR`` says;
    ``JAX_ENABLE_COMPILATION_CACHE=false`` does without.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "fnnet" / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def list_modules(program: str, modules: Mapping[str, str]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, path in modules.items():
        table.add_row(f"[bold]{name}[/]", (import_module(path).__doc__ or "").strip().splitlines()[0])
    console = Console()
    console.print(f"{program} NAME [--option value ...]\n", markup=False, highlight=False)
    console.print(table)
