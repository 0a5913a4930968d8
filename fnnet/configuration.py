"""The decorator of everything that is configuration: layers, cells and penalties."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform

from fnnet.binding import name_of

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def configuration(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass that is equal, hashable and shown by the values of its fields.

    A configuration is a static argument of ``jax.jit``: two that are built alike share one compiled program. A number
    in it may be traced where the function that is traced builds the configuration itself, as ``make`` of ``sweep``
    does; such a configuration can be used within that function, but neither compared nor hashed. A class that defines
    ``__repr__`` itself keeps it.
    """
    if "__repr__" not in vars(cls):
        cls.__repr__ = brief  # type: ignore[method-assign]
    return dataclass(frozen=True, repr=False)(cls)


def brief(value: Any) -> str:
    """Return a dataclass as it would be written: without fields at their defaults, and functions by their names."""
    # Defaults are known by identity: a value may be traced, and a traced number cannot be compared.
    values = {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) is not f.default}
    written = [f"{name}={name_of(v) if inspect.isfunction(v) else repr(v)}" for name, v in values.items()]
    return f"{type(value).__name__}({', '.join(written)})"
