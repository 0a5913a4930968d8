"""What a function or an object is made of, as names and numbers that can be saved and compared."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def description(value: Any, path: str = "") -> dict[str, Any]:
    """Return, by path, the names and numbers that a value is made of.

    A closure is described by its name and by what it encloses: the description of ``adam(1e-3).update`` has, among
    others, ``".update.learning_rate": 0.001`` and ``".update.caller": "optimizers.adam"``. Lambdas differ by their
    code, arrays by a checksum. Values that are built alike have equal descriptions, also in two processes.
    """
    return dict(described(value, path, ()))


def described(value: Any, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    own, parts = own_and_parts(value)
    yield path, own
    if id(value) not in above:  # a function may enclose itself
        for name, part in parts.items():
            yield from described(part, f"{path}.{name}", (*above, id(value)))


def own_and_parts(value: Any) -> tuple[Any, dict[Any, Any]]:
    """Return the name or the number of a value, and by name what else it consists of."""
    if isinstance(value, (bool, int, float, str)):
        return value, {}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return checksum(value), {}
    if isinstance(value, dict):
        return len(value), value
    if isinstance(value, (tuple, list)):
        fields = getattr(value, "_fields", range(len(value)))
        return len(value), dict(zip(fields, value, strict=True))
    if isinstance(value, functools.partial):
        return "partial", {"function": value.func, "arguments": value.args, **value.keywords}
    if isinstance(value, FunctionType):
        code = value.__code__
        enclosed = {
            name: cell.cell_contents for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=True)
        }
        return name_in_module(value) + (
            f" {zlib.crc32(code.co_code):x}" if "<lambda>" in code.co_name else ""
        ), enclosed
    if hasattr(value, "__qualname__"):  # a class, or a function that is compiled or has a derivative of its own
        return name_in_module(value), {}
    if dataclasses.is_dataclass(value):
        return name_in_module(type(value)), {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    return name_in_module(type(value)), getattr(value, "__dict__", {}) if callable(value) else {}


def name_in_module(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def checksum(array: Any) -> str:
    kind = f"{array.dtype} {array.shape}"
    if isinstance(array, jax.core.Tracer) or jnp.issubdtype(array.dtype, jax.dtypes.extended):
        return kind
    return f"{kind} {zlib.crc32(np.ascontiguousarray(array).tobytes()):x}"
