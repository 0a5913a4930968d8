"""Backpropagation through time: the recurrent layers, with a carry and a mask.

``through_time`` is the specification, a step of ``fnnet.backprop.layers.cells`` after the other. The cells of fnnet run
by ``fnnet.cpu.in_place``, which computes the same faster; a cell of your own, with a rule in ``CELL_RULES``, runs by
the specification itself.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnnet.backprop.layers.cells import CELL_RULES
from fnnet.cpu import in_place
from fnnet.layers.cells import Carry
from fnnet.layers.recurrent import (
    Bidirectional,
    Recurrent,
    forwards,
    in_order,
    last_gradient,
    last_output,
    where_exists,
    where_steps_exist,
)
from fnnet.shards import varying_with
from fnnet.types import Array, Params

Gradients = tuple[Params, Array, Carry]


def through_time(cell: Any, params: Params, residuals: Any, dy: Array, dcarry: Carry) -> Gradients:
    """carry_t, y_t = step(carry_{t−1}, x_t) for t = 1 ... T  ⇒  for t = T ... 1

    dparams_t, dcarry_{t−1}, dx_t = stepᵀ(dcarry_t, dy_t),  and dparams = Σ_t dparams_t.
    A step that an example does not have gets zeros, for which it returns zeros, and ``dcarry`` passes it unchanged.
    """
    x, mask, start = residuals
    step_backward = CELL_RULES.look_up(cell)

    def step(carry: Carry, inputs: Any) -> tuple[Carry, Carry]:
        x, exists = inputs
        return where_exists(exists, cell.step(params, carry, x)[0], carry), carry

    def back(state: Any, inputs: Any) -> Any:
        (dafter, total), (carry, x, exists, dy) = state, inputs
        here = where_exists(exists, dafter, jax.tree.map(jnp.zeros_like, dafter))
        dparams, dbefore, dx = step_backward(cell, params, carry, x, here, dy)
        return (where_exists(exists, dbefore, dafter), jax.tree.map(jnp.add, total, dparams)), dx

    xs, exists, dys = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), (x, mask, dy))
    zeros = jax.tree.map(jnp.zeros_like, params)
    _, carries = jax.lax.scan(step, varying_with(start, params, xs, exists), (xs, exists))
    state = varying_with((dcarry, zeros), params, carries, xs, exists, dys)
    (dcarry, dparams), dxs = jax.lax.scan(back, state, (carries, xs, exists, dys), reverse=True)
    return dparams, jnp.swapaxes(dxs, 0, 1), dcarry


def plain_forward(cell: Any, params: Params, x: Array, carry: Carry, mask: Array | None) -> tuple[Array, Carry, Any]:
    """Return the outputs of all steps, the last carry and the residuals of ``through_time``."""
    y, after = Recurrent(cell).scan(params, x, carry, mask)
    return y, after, (x, mask, carry)


def scan_forward(
    layer: Recurrent, params: Params, x: Array, carry: Carry, mask: Array | None
) -> tuple[Array, Carry, Any]:
    """Return ``(y, carry, residuals)`` of ``layer.scan``."""
    CELL_RULES.look_up(layer.cell)
    _, x, mask = forwards(layer, where_steps_exist(x, mask), mask)
    run = in_place.forward if type(layer.cell) in in_place.STEPS else plain_forward
    y, after, residuals = run(layer.cell, params, x, carry, mask)
    return in_order(layer, y) if layer.return_sequences else last_output(y, mask), after, residuals


def scan_backward(layer: Recurrent, params: Params, residuals: Any, dy: Array, dcarry: Carry) -> Gradients:
    """Return ``(dparams, dx, dcarry)`` for gradients of both results of ``scan_forward``."""
    x, mask, *_ = residuals
    dy = in_order(layer, dy) if layer.return_sequences else last_gradient(dy, x.shape[1], mask)
    run = in_place.backward if type(layer.cell) in in_place.STEPS else through_time
    dparams, dx, dcarry = run(layer.cell, params, residuals, where_steps_exist(dy, mask), dcarry)
    return dparams, dx[:, ::-1] if layer.reverse else dx, dcarry


def bidirectional_forward(
    layer: Bidirectional, params: Params, x: Array, carry: dict[str, Carry], mask: Array | None
) -> tuple[Array, dict[str, Carry], dict[str, Any]]:
    """Return ``(y, carry, residuals)`` of ``layer.scan``."""
    ys, after, residuals = [], {}, {}
    for name, one in layer.directions.items():
        y, after[name], residuals[name] = scan_forward(one, params[name], x, carry[name], mask)
        ys.append(y)
    return jnp.concatenate(ys, -1), after, residuals


def bidirectional_backward(
    layer: Bidirectional, params: Params, residuals: dict[str, Any], dy: Array, dcarry: dict[str, Carry]
) -> tuple[Params, Array, dict[str, Carry]]:
    """y = [y_forward, y_backward]  ⇒  each direction gets its half of dy, and dx is the sum of both."""
    halves = dict(zip(layer.directions, jnp.split(dy, [layer.cell.features], -1), strict=True))
    found = {
        name: scan_backward(one, params[name], residuals[name], halves[name], dcarry[name])
        for name, one in layer.directions.items()
    }
    dparams, dx, dstart = ({name: each[i] for name, each in found.items()} for i in range(3))
    return dparams, dx["forward"] + dx["backward"], dstart
