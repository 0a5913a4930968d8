"""The type of a reference: a value and its derivative."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Reference(NamedTuple):
    value: Callable[..., Any]
    derivative: Callable[..., Any]
