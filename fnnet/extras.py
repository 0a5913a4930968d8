"""Libraries that only some uses need, imported when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def imported(place: str, module: str, extra: str) -> Any:
    """Return the module, or raise an ImportError that says which extra of fnnet installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f'{place} needs {module}; install it with: pip install "fnnet[{extra}]"') from error
