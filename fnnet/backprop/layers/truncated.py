"""Truncated backpropagation through time, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fnnet.backprop.layers.recurrent import scan_backward, scan_forward
from fnnet.layers.cells import Carry
from fnnet.layers.recurrent import forwards, in_order, last_gradient
from fnnet.layers.truncated import Truncated, scan_to_windows
from fnnet.types import Array, Params


def truncated_forward(
    layer: Truncated, params: Params, x: Array, carry: Carry, mask: Array | None
) -> tuple[Array, Carry, Any]:
    """Return ``(y, carry, residuals)``: the residuals are the inputs and the carries before the windows."""
    inner, x, mask = forwards(layer.layer, x, mask)
    y, after, boundaries = scan_to_windows(inner, layer.windows(x), params, x, carry, mask)
    return in_order(layer.layer, y), after, (x, mask, carry, boundaries)


def truncated_backward(
    layer: Truncated, params: Params, residuals: Any, dy: Array, dcarry: Carry
) -> tuple[Params, Array, Carry]:
    """Pass j takes dy of the last k1 steps of window j back over its k2 steps, to a constant carry.

    All windows run at once, as examples: dparams, dx_t and the gradient of the given carry are sums over the windows.
    """
    x, mask, carry, boundaries = residuals
    inner, _, _ = forwards(layer.layer, x, None)
    dy = in_order(layer.layer, dy) if inner.return_sequences else last_gradient(dy, x.shape[1], mask)
    inner, windows = replace(inner, return_sequences=True), layer.windows(x)
    starts, exist = windows.starts(carry, boundaries), windows.exist(x, mask)
    _, _, kept = scan_forward(inner, params, windows.cut(x), starts, exist)
    dys, dafter = windows.output_gradients(dy), windows.last_carry_gradient(dcarry)
    dparams, dx, dstarts = scan_backward(inner, params, kept, dys, dafter)
    dx = windows.added(dx)
    dcarry = windows.given_gradient(dstarts, boundaries)
    return dparams, dx[:, ::-1] if layer.layer.reverse else dx, dcarry
