"""The rules of layers made of layers."""

from __future__ import annotations

from typing import Any

from fnnet.backprop.rule import RULES, Rule
from fnnet.layers import Residual, Sequential
from fnnet.types import Array, Params


def sequential_forward(
    layer: Sequential, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, tuple[Any, ...]]:
    layer.check(params)
    residuals = []
    for i, (inner, p) in enumerate(zip(layer.layers, params, strict=True)):
        x, r = RULES.look_up(inner).forward(inner, p, x, key=layer.key(key, i), train=train)
        residuals.append(r)
    return x, tuple(residuals)


def sequential_backward(
    layer: Sequential, params: Params, residuals: tuple[Any, ...], dy: Array
) -> tuple[Params, Array]:
    """y = f_L(... f_1(x))  ⇒  the chain rule from the last layer to the first: a layer's dx is dy of the one before."""
    dparams = []
    for inner, p, r in reversed(list(zip(layer.layers, params, residuals, strict=True))):
        dp, dy = RULES.look_up(inner).backward(inner, p, r, dy)
        dparams.append(dp)
    return tuple(reversed(dparams)), dy


def residual_forward(
    layer: Residual, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, tuple[Any, ...]]:
    outputs, residuals = zip(
        *(
            RULES.look_up(inner).forward(inner, params[name], x, key=Sequential.key(key, i), train=train)
            for i, (name, inner) in enumerate(layer.children())
        ),
        strict=True,
    )
    return layer.sum(*outputs), residuals


def residual_backward(layer: Residual, params: Params, residuals: tuple[Any, ...], dy: Array) -> tuple[Params, Array]:
    """y = f(x) + s(x)  ⇒  both receive dy, and dx is the sum of their dx."""
    dparams, dx = {}, []
    for (name, inner), r in zip(layer.children(), residuals, strict=True):
        dparams[name], dx_inner = RULES.look_up(inner).backward(inner, params[name], r, dy)
        dx.append(dx_inner)
    return dparams, dx[0] + dx[1]


RULES[Residual] = Rule(residual_forward, residual_backward)
RULES[Sequential] = Rule(sequential_forward, sequential_backward)
