"""What a hand-written rule is, and how the rule of a layer, a cell, a penalty or a function is found."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, Generic, NamedTuple, TypeVar

import jax.numpy as jnp

from fnnet import checks
from fnnet.binding import name_of, unbind
from fnnet.types import Array, Layer, Params

R = TypeVar("R")


class Rule(NamedTuple):
    """The forward and the backward pass of one type of layer.

    ``forward(layer, params, x, *, key, train) -> (y, residuals)`` computes what ``layer.apply`` does and keeps the
    least that the derivative needs, as a pytree of arrays.

    ``backward(layer, params, residuals, dy) -> (dparams, dx)`` is the transposed derivative applied to ``dy``, the
    gradient with respect to ``y``; ``dparams`` has the structure of ``params``, ``dx`` the shape of ``x``.
    """

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[[Any, Params, Any, Array], tuple[Params, Array]]


def keep_input(layer: Layer, params: Params, x: Array, *, key: Array | None, train: bool) -> tuple[Array, Array]:
    """Apply the layer and keep its input: the forward pass of every rule that needs no other residuals."""
    return layer.apply(params, x, key=key, train=train), x


def keep_nothing(layer: Layer, params: Params, x: Array, *, key: Array | None, train: bool) -> tuple[Array, tuple[()]]:
    """Apply the layer and keep nothing: the forward pass of every rule that needs no residuals."""
    return layer.apply(params, x, key=key, train=train), ()


def bare_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function without the options that ``bind`` has fixed."""
    return unbind(function)[0]


class Table(dict[Any, R], Generic[R]):
    """A dict of hand-written rules that you can read and extend, with one look-up for all of them.

    The rule of a layer, a cell or a penalty stands at its exact type; a subclass may compute something else, so it
    inherits none. The rule of an activation or a loss stands at the function itself; options that ``bind`` has fixed
    are taken off for the look-up and passed to the rule. Where there is no rule, the error says how to add one.

    Rules are looked up while tracing: a program that was compiled before an entry changed keeps the old rule.
    """

    def __init__(self, of: str, name: str, entry: str, key: Callable[[Any], Any] = type) -> None:
        self.of, self.name, self.entry, self.key = of, name, entry, key

    def look_up(self, subject: Any) -> R:
        """Return the rule of a layer, a cell, a penalty or a function."""
        key = self.key(subject)
        if key in self:
            return self[key]
        known, how = name_of(key), "add one"
        if key is FunctionType:
            known, how = "TheClass", "a function has no type of its own: write it as a class, and add one"
        raise TypeError(
            f"backprop: the {self.of} {name_of(bare_function(subject))} has no hand-written rule; {how} with "
            f"fnnet.backprop.{self.name}[{known}] = {self.entry}"
        )


# The modules of fnnet.backprop.layers fill it.
RULES: Table[Rule] = Table("layer", "RULES", "fnnet.backprop.Rule(forward, backward)")


def vjp(
    layer: Layer, params: Params, x: Array, *, key: Array | None = None, train: bool = False
) -> tuple[Array, Callable[[Array], tuple[Params, Array]]]:
    """Return ``(y, pullback)`` of a layer at ``params`` and ``x``, by its hand-written rule.

    ``pullback(dy) -> (dparams, dx)`` takes any ``dy`` of the shape and dtype of ``y``. The pair equals
    ``jax.vjp(lambda p, x: layer.apply(p, x, key=key, train=train), params, x)``.
    """
    rule = RULES.look_up(layer)
    y, residuals = rule.forward(layer, params, checks.array(type(layer).__name__, "x", x), key=key, train=train)

    def pullback(dy: Array) -> tuple[Params, Array]:
        check_cotangent("backprop.vjp", layer, dy, y)
        return rule.backward(layer, params, residuals, dy)

    return y, pullback


def check_cotangent(place: str, layer: Layer, dy: Any, y: Array) -> None:
    """Raise if ``dy``, the gradient with respect to ``y``, is not of the shape and dtype of ``y``."""
    checks.require(
        jnp.shape(dy) == y.shape,
        f"{place}: dy has shape {jnp.shape(dy)} but {layer!r} gave y of shape {y.shape}; they must be equal",
    )
    checks.same_dtype(place, "dy", dy, "y", y)
