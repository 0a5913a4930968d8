"""The layers that run over time: their rules with a carry and a mask, and as layers without."""

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
from fnnet.cells import Carry, shapes_of
from fnnet.layers.recurrent import Bidirectional, Recurrent
from fnnet.layers.segments import Rematerialized
from fnnet.layers.truncated import Truncated
from fnnet.types import Array, DType, Params


class ScanRule(NamedTuple):
    """``forward(layer, params, x, carry, mask) -> (y, carry, residuals)``;

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
    """``((y, carry), pullback)`` of ``layer.scan``, by hand: ``pullback(dy, dcarry) -> (dparams, dx, dcarry)``.

    Equals ``jax.vjp(lambda params, x, carry: layer.scan(params, x, carry, mask), params, x, carry)``, for a
    ``Recurrent``, ``Bidirectional``, ``Rematerialized`` or ``Truncated``. ``pullback(dy)`` takes ``dcarry`` to be zero:
    nothing depends on the carry given back.
    """
    place, rule = "backprop.scan_vjp", SCAN_RULES.look_up(layer)
    x = jnp.asarray(x)
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
    """The carry to start from and the mask. Refuses what does not fit."""
    return plain(layer).checked(x, carry, mask)


def plain(layer: Any) -> Any:
    """The layer itself, or the one that it runs piece by piece."""
    return layer if hasattr(layer, "checked") else layer.layer


def zero_carry(layer: Any, examples: int, dtype: DType) -> Carry:
    if isinstance(layer, Bidirectional):
        return {name: zero_carry(one, examples, dtype) for name, one in layer.directions.items()}
    return plain(layer).cell.initial_carry(examples, dtype)


def as_layer_rule(rule: ScanRule) -> Rule:
    """The rule of ``layer.apply``: a carry of zeros at the start, and none asked for at the end."""

    def forward(layer: Any, params: Params, x: Array, *, key: Array | None, train: bool) -> tuple[Array, Any]:
        y, _, residuals = rule.forward(layer, params, x, *checked(layer, x, None, None))
        return y, residuals

    def backward(layer: Any, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
        nothing = zero_carry(layer, len(dy), dy.dtype)
        dparams, dx, _ = rule.backward(layer, params, residuals, dy, nothing)
        return dparams, dx

    return Rule(forward, backward)


RULES.update({kind: as_layer_rule(rule) for kind, rule in SCAN_RULES.items()})
