"""The layers that run over time: their rules with a carry and a mask, and as layers without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from fnnet.backprop.layers.recurrent import scan_backward, scan_forward
from fnnet.backprop.layers.segments import checkpointed_backward, checkpointed_forward
from fnnet.backprop.layers.truncated import truncated_backward, truncated_forward
from fnnet.backprop.rule import RULES, Rule
from fnnet.cells import Carry
from fnnet.layers.recurrent import Recurrent
from fnnet.layers.segments import Checkpointed
from fnnet.layers.truncated import Truncated
from fnnet.types import Array, Params


class ScanRule(NamedTuple):
    """``forward(layer, params, x, carry, mask) -> (y, carry, residuals)``;

    ``backward(layer, params, residuals, dy, dcarry) -> (dparams, dx, dcarry)``.
    """

    forward: Callable[..., tuple[Array, Carry, Any]]
    backward: Callable[..., tuple[Params, Array, Carry]]


SCAN_RULES: dict[type, ScanRule] = {
    Recurrent: ScanRule(scan_forward, scan_backward),
    Checkpointed: ScanRule(checkpointed_forward, checkpointed_backward),
    Truncated: ScanRule(truncated_forward, truncated_backward),
}


def scan_vjp(
    layer: Any, params: Params, x: Array, carry: Carry | None = None, mask: Array | None = None
) -> tuple[tuple[Array, Carry], Callable[[Array, Carry], tuple[Params, Array, Carry]]]:
    """``((y, carry), pullback)`` of ``layer.scan``, by hand: ``pullback(dy, dcarry) -> (dparams, dx, dcarry)``.

    Equals ``jax.vjp(lambda params, x, carry: layer.scan(params, x, carry, mask), params, x, carry)``, for a
    ``Recurrent``, ``Checkpointed`` or ``Truncated``.
    """
    rule = SCAN_RULES.get(type(layer))
    if rule is None:
        known = ", ".join(kind.__name__ for kind in SCAN_RULES)
        raise TypeError(f"backprop.scan_vjp: layer is {layer!r}; expected one of {known}")
    x = jnp.asarray(x)
    y, carry, residuals = rule.forward(layer, params, x, start_of(layer, params, x, carry, mask), mask)
    return (y, carry), lambda dy, dcarry: rule.backward(layer, params, residuals, dy, dcarry)


def start_of(layer: Any, params: Params, x: Array, carry: Carry | None, mask: Array | None) -> Carry:
    """The carry to start from. Refuses what does not fit."""
    return recurrent_of(layer).checked(params, x, carry, mask)


def recurrent_of(layer: Any) -> Recurrent:
    return layer if isinstance(layer, Recurrent) else layer.layer


def as_layer_rule(rule: ScanRule) -> Rule:
    """The rule of ``layer.apply``: a carry of zeros at the start, and none asked for at the end."""

    def forward(layer: Any, params: Params, x: Array, *, key: Array | None, train: bool) -> tuple[Array, Any]:
        y, _, residuals = rule.forward(layer, params, x, start_of(layer, params, x, None, None), None)
        return y, residuals

    def backward(layer: Any, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
        nothing = recurrent_of(layer).cell.initial_carry(len(dy), dy.dtype)
        dparams, dx, _ = rule.backward(layer, params, residuals, dy, nothing)
        return dparams, dx

    return Rule(forward, backward)


RULES[Checkpointed] = as_layer_rule(SCAN_RULES[Checkpointed])
RULES[Truncated] = as_layer_rule(SCAN_RULES[Truncated])
