"""Backpropagation through time: the rules of the layers that run a cell over a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnnet.backprop.cells import cell_rule, outer_sum
from fnnet.backprop.rule import RULES, Rule
from fnnet.cells import Carry
from fnnet.layers.recurrent import Bidirectional, Recurrent, by_time, masked_step
from fnnet.types import Array, Params


def scan_vjp(
    layer: Recurrent, params: Params, x: Array, carry: Carry | None = None, mask: Array | None = None
) -> tuple[tuple[Array, Carry], Callable[[Array, Carry], tuple[Params, Array, Carry]]]:
    """``((y, carry), pullback)`` of ``layer.scan``, by hand: ``pullback(dy, dcarry) -> (dparams, dx, dcarry)``.

    Equals ``jax.vjp(lambda params, x, carry: layer.scan(params, x, carry, mask), params, x, carry)``.
    """
    x = jnp.asarray(x)
    y, carry, residuals = scan_forward(layer, params, x, layer.checked(params, x, carry, mask), mask)
    return (y, carry), lambda dy, dcarry: scan_backward(layer, params, residuals, dy, dcarry)


def scan_forward(
    layer: Recurrent, params: Params, x: Array, carry: Carry, mask: Array | None
) -> tuple[Array, Carry, Any]:
    """``(y, carry, residuals)``."""
    forward = cell_rule(layer.cell).forward
    x_by_time, exists = by_time(x, mask)
    z = layer.cell.project(params, x_by_time)

    def step(state: tuple[Carry, Array], inputs: tuple[Array, Array | None]) -> Any:
        before, last = state
        z, exists = inputs
        after, y, kept = forward(layer.cell, params, before, z)
        after, shown, last = masked_step(exists, before, after, y, last)
        return (after, last), (shown if layer.return_sequences else None, kept)

    start = (carry, jnp.zeros((x.shape[0], layer.cell.features), x.dtype))
    (carry, last), (ys, kept) = jax.lax.scan(step, start, (z, exists), reverse=layer.reverse)
    y = jnp.swapaxes(ys, 0, 1) if layer.return_sequences else last
    return y, carry, (x_by_time, exists, kept)


def scan_backward(
    layer: Recurrent, params: Params, residuals: Any, dy: Array, dcarry: Carry
) -> tuple[Params, Array, Carry]:
    """carry_t, y_t = step(carry_{t−1}, z_t) with z_t = x_t w_x + b, for t = 1 ... T  ⇒  from the last step to the first

    dcarry_{t−1}, δ_t = stepᵀ(dcarry_t, dy_t);  then, for all steps at once,  dw_x = Σ_t x_tᵀ δ_t,  db = Σ_t δ_t,
    dx_t = δ_t w_xᵀ, and the recurrent weights likewise. A step that does not exist passes dcarry on and has δ = 0.
    """
    x, exists, kept = residuals
    rule = cell_rule(layer.cell)
    sequences = layer.return_sequences

    def step(state: tuple[Carry, Array], inputs: Any) -> Any:
        dafter, waiting = state
        dy, exists, kept = inputs
        dy = dy if sequences else waiting
        if exists is None:
            return rule_step(dafter, dy, jnp.zeros_like(waiting), kept)
        here = exists[:, None]
        left = jnp.where(here, 0, waiting)
        (dbefore, _), steps = rule_step(dafter, jnp.where(here, dy, 0), left, kept)
        dbefore = jax.tree.map(lambda a, b: jnp.where(here, a, b), dbefore, dafter)
        return (dbefore, left), jax.tree.map(lambda a: jnp.where(here, a, 0), steps)

    def rule_step(dafter: Carry, dy: Array, left: Array, kept: Any) -> Any:
        dbefore, steps = rule.backward(layer.cell, params, kept, dafter, dy)
        return (dbefore, left), steps

    # Without return_sequences y is the output of the last step that exists: its gradient waits for that step.
    start = (dcarry, jnp.zeros_like(dy[:, 0]) if sequences else dy)
    dys = jnp.swapaxes(dy, 0, 1) if sequences else None
    (dcarry, _), steps = jax.lax.scan(step, start, (dys, exists, kept), reverse=not layer.reverse)
    delta = steps["z"]
    dparams = rule.weights(layer.cell, params, kept, steps)
    dparams |= {"w_x": outer_sum(x, delta), "b": delta.sum((0, 1))}
    return dparams, jnp.swapaxes(delta @ params["w_x"].T, 0, 1), dcarry


def recurrent_forward(
    layer: Recurrent, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, Any]:
    y, _, residuals = scan_forward(layer, params, x, layer.checked(params, x, None, None), None)
    return y, residuals


def recurrent_backward(layer: Recurrent, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
    nothing = layer.cell.initial_carry(len(dy), dy.dtype)
    dparams, dx, _ = scan_backward(layer, params, residuals, dy, nothing)
    return dparams, dx


def bidirectional_forward(
    layer: Bidirectional, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, dict[str, Any]]:
    results = {
        name: recurrent_forward(one, params[name], x, key=None, train=train) for name, one in layer.directions.items()
    }
    return jnp.concatenate([y for y, _ in results.values()], -1), {name: kept for name, (_, kept) in results.items()}


def bidirectional_backward(
    layer: Bidirectional, params: Params, residuals: dict[str, Any], dy: Array
) -> tuple[Params, Array]:
    """y = [y_forward, y_backward]  ⇒  each direction has its half of dy, and dx is the sum of both."""
    halves = dict(zip(layer.directions, jnp.split(dy, [layer.cell.features], -1), strict=True))
    results = {
        name: recurrent_backward(one, params[name], residuals[name], halves[name])
        for name, one in layer.directions.items()
    }
    dparams = {name: dp for name, (dp, _) in results.items()}
    return dparams, results["forward"][1] + results["backward"][1]


RULES[Recurrent] = Rule(recurrent_forward, recurrent_backward)
RULES[Bidirectional] = Rule(bidirectional_forward, bidirectional_backward)
