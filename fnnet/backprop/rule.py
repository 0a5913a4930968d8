"""What a backward pass by hand is: a pair of functions per type of layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from fnnet import checks
from fnnet.types import Array, Layer, Params


class Rule(NamedTuple):
    """The forward and the backward pass of one type of layer.

    ``forward(layer, params, x, *, key, train) -> (y, residuals)`` computes what ``layer.apply`` does and keeps the
    least that the derivative needs, as a pytree of arrays.

    ``backward(layer, params, residuals, dy) -> (dparams, dx)`` is the transposed derivative applied to ``dy``, the
    gradient with respect to ``y``; ``dparams`` has the structure of ``params``, ``dx`` the shape of ``x``.
    """

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[[Any, Params, Any, Array], tuple[Params, Array]]


RULES: dict[type, Rule] = {}  # filled by the modules of fnnet.backprop.layers; add your own layers' rules


def rule_of(layer: Layer) -> Rule:
    """The rule of a layer's exact type: a subclass may compute something else, so it inherits none."""
    try:
        return RULES[type(layer)]
    except KeyError:
        name = type(layer).__name__
        raise TypeError(
            f"backprop: {layer!r} has no hand-written rule; add one with "
            f"fnnet.backprop.RULES[{name}] = fnnet.backprop.Rule(forward, backward)"
        ) from None


def vjp(
    layer: Layer, params: Params, x: Array, *, key: Array | None = None, train: bool = False
) -> tuple[Array, Callable[[Array], tuple[Params, Array]]]:
    """``(y, pullback)`` of a layer at ``params`` and ``x``, by its hand-written rule.

    ``pullback(dy) -> (dparams, dx)`` for any ``dy`` of the shape and dtype of ``y``. It equals
    ``jax.vjp(lambda p, x: layer.apply(p, x, key=key, train=train), params, x)``.
    """
    rule = rule_of(layer)
    y, residuals = rule.forward(layer, params, jnp.asarray(x), key=key, train=train)

    def pullback(dy: Array) -> tuple[Params, Array]:
        check_cotangent("backprop.vjp", layer, dy, y)
        return rule.backward(layer, params, residuals, dy)

    return y, pullback


def check_cotangent(place: str, layer: Layer, dy: Any, y: Array) -> None:
    """Refuses a gradient with respect to ``y`` that is not of its shape and dtype."""
    checks.require(
        jnp.shape(dy) == y.shape,
        f"{place}: dy has shape {jnp.shape(dy)} but {layer!r} gave y of shape {y.shape}; they must be equal",
    )
    checks.same_dtype(place, "dy", dy, "y", y)
