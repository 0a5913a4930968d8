"""How a benchmark begins: who takes part, and on which machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from experiments.benchmarks import environment
from experiments.cli import ExperimentError


def start(contenders: Mapping[str, Any], only: Sequence[str], packages: Sequence[str]) -> tuple[Any, Any, Console]:
    """The contenders that take part, the machine as ``environment.describe`` has it, shown, and the console."""
    chosen = named(contenders, only or tuple(contenders), "contender")
    # By default every JAX process takes most of an accelerator's memory at its start, and there are several.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    console = Console()
    machine = environment.describe(packages)
    console.print("\n".join(f"{name:14}{value}" for name, value in machine.items()), highlight=False)
    return chosen, machine, console


def named(table: Mapping[str, Any], names: Sequence[str], kind: str) -> dict[str, Any]:
    """The entries of those names."""
    if unknown := set(names) - set(table):
        raise ExperimentError(f"no {kind} is called {', '.join(sorted(unknown))}; known are {', '.join(table)}")
    return {name: table[name] for name in names}
