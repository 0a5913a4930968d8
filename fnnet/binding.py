"""Functions with some of their options fixed, which are equal and hash alike if built alike.

A layer compares by the values of its fields, and so must a function that is one of them. Closures and
``functools.partial`` compare by identity: two layers built alike would differ, and ``jit`` would trace again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, repr=False)
class Bound:
    """A function with keyword options fixed. Build it with ``bind``."""

    function: Callable[..., Any]
    options: tuple[tuple[str, Any], ...]

    def __call__(self, *args: Any) -> Any:
        return self.function(*args, **dict(self.options))

    @property
    def __name__(self) -> str:
        return f"{self.function.__name__}({', '.join(f'{k}={v}' for k, v in self.options)})"

    def __repr__(self) -> str:
        return self.__name__


def bind(function: Callable[..., Any], **options: Any) -> Bound:
    """Fix keyword options of a function, as in ``bind(initializers.normal, stddev=0.1)``.

    Two bindings of the same function with the same options are equal. An unknown option, and a string for a number,
    raise here, not at the first call.
    """
    function, fixed = unbind(function)
    known = inspect.signature(function).parameters
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"bind: {function.__name__} has no option {name!r}; it takes {', '.join(known)}")
        if isinstance(value, str) and isinstance(known[name].default, (bool, int, float)):
            raise TypeError(
                f"bind: {name} of {function.__name__} is {value!r}; expected a number, such as {known[name].default}"
            )
    return Bound(function, tuple(sorted((fixed | options).items())))


def unbind(function: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the bare function and its fixed options, ``{}`` if nothing is bound."""
    if isinstance(function, Bound):
        return function.function, dict(function.options)
    return function, {}


def name_of(function: Any) -> str:
    """Return the name of a function as it is shown in messages and tables."""
    return getattr(function, "__name__", None) or repr(function)
