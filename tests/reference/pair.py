"""What a reference is."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Reference(NamedTuple):
    value: Callable[..., Any]
    derivative: Callable[..., Any]
