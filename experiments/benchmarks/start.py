"""The start of a benchmark: choose the contenders and describe the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from experiments.benchmarks import environment
from experiments.cli import ExperimentError


def start(contenders: Mapping[str, Any], only: Sequence[str], packages: Sequence[str]) -> tuple[Any, Any, Console]:
    """Return the chosen contenders, the description of the machine, which is printed, and the console.

    ``only`` names the contenders; if it is empty, all take part.
    """
    chosen = named(contenders, only or tuple(contenders), "contender")
    # By default a JAX process takes most of an accelerator's memory when it starts, and there are several processes.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    console = Console()
    machine = environment.describe(packages)
    console.print("\n".join(f"{name:14}{value}" for name, value in machine.items()), highlight=False)
    return chosen, machine, console


def named(table: Mapping[str, Any], names: Sequence[str], kind: str) -> dict[str, Any]:
    """Return the entries with those names, or raise ``ExperimentError`` for a name that is not in the table."""
    if unknown := set(names) - set(table):
        raise ExperimentError(f"no {kind} is called {', '.join(sorted(unknown))}; the names are {', '.join(table)}")
    return {name: table[name] for name in names}
