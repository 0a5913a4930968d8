"""Configurations: equal, hashable and printed by their fields."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import pytest

from fnnet import relu, tanh
from fnnet.configuration import configuration


@configuration
class Thing:
    size: int
    function: Callable[..., object] = relu
    factor: float = 1.0


@configuration
class Named:
    size: int

    def __repr__(self) -> str:
        return f"named {self.size}"


def test_equal_and_hashable_by_value() -> None:
    assert Thing(3) == Thing(3, relu)
    assert hash(Thing(3)) == hash(Thing(3, relu))
    assert Thing(3) != Thing(3, tanh)
    assert Thing(3) != Named(3)
    assert replace(Thing(3), size=4) == Thing(4)


def test_repr_leaves_out_defaults_and_names_functions() -> None:
    assert repr(Thing(3)) == "Thing(size=3)"
    assert repr(Thing(3, tanh, 0.5)) == "Thing(size=3, function=tanh, factor=0.5)"
    assert repr(Named(3)) == "named 3"


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Thing(3).size = 4  # type: ignore[misc]
