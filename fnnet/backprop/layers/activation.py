"""The rule of ``Activation``: the derivative of its function."""

from __future__ import annotations

from typing import Any

from fnnet.backprop.activations import activation_rule
from fnnet.backprop.rule import RULES, Rule
from fnnet.layers import Activation
from fnnet.types import Array, Params


def activation_forward(
    layer: Activation, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, Any]:
    rule, options = activation_rule(layer.function)
    return rule.forward(x, **options)


def activation_backward(layer: Activation, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
    """a = f(z)  ⇒  dz = f'(z)ᵀ da; for a function of each entry alone, da ⊙ f'(z)."""
    rule, options = activation_rule(layer.function)
    return {}, rule.backward(residuals, dy, **options)


RULES[Activation] = Rule(activation_forward, activation_backward)
