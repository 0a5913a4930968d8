"""A layer whose ``jax.grad`` runs the hand-written rule."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from fnnet import checks
from fnnet.backprop.rule import RULES, Rule
from fnnet.configuration import configuration
from fnnet.layers.nesting import Children
from fnnet.types import Array, Layer, Params, Shaped


@configuration
class CustomVJP:
    """A layer with the same ``init`` and ``apply``, differentiated by its rule. Build it with ``as_custom_vjp``."""

    layer: Layer

    def children(self) -> Children:
        return (("", self.layer),)

    def init(self, key: Array, x: Shaped) -> Params:
        return self.layer.init(key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return apply(self.layer, train, params, checks.array(type(self.layer).__name__, "x", x), key)


def as_custom_vjp(layer: Layer) -> CustomVJP:
    """Return the same layer, whose derivative under ``jax.grad`` and ``jax.vjp`` is the hand-written rule.

    The rule of a ``Sequential`` is its whole backward pass. ``jax.hessian`` works, by forward over reverse mode;
    forward mode alone (``jax.jvp`` of the layer) does not, as with every ``jax.custom_vjp``.
    """
    RULES.look_up(layer)  # raises for a layer without a rule here, not at the first gradient
    return layer if isinstance(layer, CustomVJP) else CustomVJP(layer)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def apply(layer: Layer, train: bool, params: Params, x: Array, key: Array | None) -> Array:
    return layer.apply(params, x, key=key, train=train)


def apply_forward(layer: Layer, train: bool, params: Params, x: Array, key: Array | None) -> tuple[Array, Any]:
    y, residuals = RULES.look_up(layer).forward(layer, params, x, key=key, train=train)
    return y, (params, residuals)


def apply_backward(layer: Layer, train: bool, saved: Any, dy: Array) -> tuple[Params, Array, None]:
    params, residuals = saved
    return *RULES.look_up(layer).backward(layer, params, residuals, dy), None  # a key has no derivative


apply.defvjp(apply_forward, apply_backward)


def custom_vjp_forward(layer: CustomVJP, params: Params, x: Array, *, key: Array | None, train: bool) -> Any:
    return RULES.look_up(layer.layer).forward(layer.layer, params, x, key=key, train=train)


def custom_vjp_backward(layer: CustomVJP, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
    return RULES.look_up(layer.layer).backward(layer.layer, params, residuals, dy)


RULES[CustomVJP] = Rule(custom_vjp_forward, custom_vjp_backward)
