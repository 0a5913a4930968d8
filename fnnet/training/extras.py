"""Libraries that only some uses need: imported when used."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def imported(place: str, module: str, extra: str) -> Any:
    """The module, or an ImportError that says which extra of fnnet brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f'{place} needs {module}; install it with: pip install "fnnet[{extra}]"') from error
