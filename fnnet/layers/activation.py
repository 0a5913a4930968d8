"""Activation functions as layers."""

from __future__ import annotations

from typing import Any

from fnnet import checks
from fnnet.binding import name_of
from fnnet.configuration import configuration
from fnnet.types import ActivationFunction, Array, Params, Shaped


@configuration
class Activation:
    """An activation function as a layer, ``a = f(z)``, such as ``Activation(fnnet.relu)``. It has no parameters.

    Options of the function are fixed with ``fnnet.bind``, as in ``Activation(bind(softmax, axis=1))``.
    """

    function: ActivationFunction

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"Activation: {self.function!r} is not a function; pass one, such as fnnet.relu")

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        return {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        checks.floating(repr(self), "x", x)
        return self.function(x)

    def __repr__(self) -> str:
        return f"Activation({name_of(self.function)})"
