"""The table of rules for layers that run over time, with a carry and a mask, and as rules of plain layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.backprop.layers.recurrent import (
    bidirectional_backward,
    bidirectional_forward,
    scan_backward,
    scan_forward,
)
from fnnet.backprop.layers.segments import rematerialized_backward, rematerialized_forward
from fnnet.backprop.layers.truncated import truncated_backward, truncated_forward
from fnnet.backprop.rule import RULES, Rule, Table, check_cotangent
from fnnet.layers.cells import Carry, shapes_of
from fnnet.layers.recurrent import Bidirectional, Recurrent
from fnnet.layers.segments import Rematerialized
from fnnet.layers.truncated import Truncated
from fnnet.types import Array, Params


class ScanRule(NamedTuple):
    """The forward and the backward pass of ``layer.scan``.

    ``forward(layer, params, x, carry, mask) -> (y, carry, residuals)``;
    ``backward(layer, params, residuals, dy, dcarry) -> (dparams, dx, dcarry)``.
    """

    forward: Callable[..., tuple[Array, Carry, Any]]
    backward: Callable[..., tuple[Params, Array, Carry]]


SCAN_RULES: Table[ScanRule] = Table("scan of", "SCAN_RULES", "fnnet.backprop.ScanRule(forward, backward)")
SCAN_RULES |= {
    Recurrent: ScanRule(scan_forward, scan_backward),
    Bidirectional: ScanRule(bidirectional_forward, bidirectional_backward),
    Rematerialized: ScanRule(rematerialized_forward, rematerialized_backward),
    Truncated: ScanRule(truncated_forward, truncated_backward),
}


def scan_vjp(
    layer: Any, params: Params, x: Array, carry: Carry | None = None, mask: Array | None = None
) -> tuple[tuple[Array, Carry], Callable[..., tuple[Params, Array, Carry]]]:
    """Return ``((y, carry), pullback)`` of ``layer.scan`` by its hand-written rule.

    ``pullback(dy, dcarry) -> (dparams, dx, dcarry)`` equals that of ``jax.vjp(lambda params, x, carry:
    layer.scan(params, x, carry, mask), params, x, carry)``. Without ``dcarry`` it is zero: nothing depends on the
    returned carry. The layer is a ``Recurrent``, ``Bidirectional``, ``Rematerialized`` or ``Truncated``.
    """
    place, rule = "backprop.scan_vjp", SCAN_RULES.look_up(layer)
    x = checks.array(place, "x", x)
    y, after, residuals = rule.forward(layer, params, x, *checked(layer, x, carry, mask))

    def pullback(dy: Array, dcarry: Carry | None = None) -> tuple[Params, Array, Carry]:
        check_cotangent(place, layer, dy, y)
        if dcarry is None:
            dcarry = jax.tree.map(jnp.zeros_like, after)
        found, expected = shapes_of(dcarry), shapes_of(after)
        checks.require(
            found == expected,
            f"{place}: dcarry has (shape, dtype) {found} but the carry of {layer!r} {expected}; they must be equal",
        )
        return rule.backward(layer, params, residuals, dy, dcarry)

    return (y, after), pullback


def checked(layer: Any, x: Array, carry: Carry | None, mask: Array | None) -> tuple[Carry, Array | None]:
    """Return the carry to start from and the mask; raise if they do not fit."""
    layer = layer.layer if isinstance(layer, Rematerialized | Truncated) else layer
    return layer.checked(x, carry, mask)


def as_layer_rule(rule: ScanRule) -> Rule:
    """Return the rule of ``layer.apply``, which starts from a carry of zeros and returns none."""

    def forward(layer: Any, params: Params, x: Array, *, key: Array | None, train: bool) -> tuple[Array, Any]:
        y, after, residuals = rule.forward(layer, params, x, *checked(layer, x, None, None))
        return y, (residuals, jax.tree.map(jnp.zeros_like, after))

    def backward(layer: Any, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
        dparams, dx, _ = rule.backward(layer, params, residuals[0], dy, residuals[1])
        return dparams, dx

    return Rule(forward, backward)


RULES.update({kind: as_layer_rule(rule) for kind, rule in SCAN_RULES.items()})
