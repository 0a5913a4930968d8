"""A stack of layers along a stream that comes in pieces: every recurrent layer goes on from its carry.

Truncated backpropagation through time (Williams and Peng 1990): values flow from piece to piece, gradients do not.
Letters: ``x (N, T, ...)`` is the next piece of ``N`` streams, ``carries`` a tuple with one entry for each layer: that
of ``scan`` of a ``Recurrent``, ``Rematerialized`` or ``Truncated``, and ``()`` for a layer without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeGuard

import jax
import jax.numpy as jnp

from fnnet import Bidirectional, Recurrent, Rematerialized, Sequential, Truncated, backprop
from fnnet.backprop.losses import loss_gradient
from fnnet.types import Array, Batch, DType, Layer, Loss, Params

Scanned = Recurrent | Rematerialized | Truncated
Carries = tuple[Any, ...]
ValueAndGrad = Callable[..., tuple[tuple[Array, Carries], Params]]
Engine = Literal["hand", "autodiff"]


def initial_carries(model: Sequential, streams: int, dtype: DType = jnp.float32) -> Carries:
    """Those at the start of a stream: all zero."""
    return tuple(inner_of(layer).cell.initial_carry(streams, dtype) if goes_on(layer) else () for layer in model.layers)


def goes_on(layer: Layer) -> TypeGuard[Scanned]:
    """Whether the layer goes on from piece to piece. Refuses one that would need the pieces to come."""
    if not hasattr(layer, "scan"):
        return False
    if isinstance(layer, Bidirectional) or inner_of(layer).reverse:
        raise TypeError(f"streaming: {layer!r} runs backwards in time, from pieces that are not there yet")
    return True


def inner_of(layer: Any) -> Recurrent:
    return layer if isinstance(layer, Recurrent) else layer.layer


def scan(
    model: Sequential, params: Params, x: Any, carries: Carries, *, key: Array | None = None, train: bool = False
) -> tuple[Array, Carries]:
    """``(y, carries)``: the model over the next piece, and where it stands then. From zeros it is ``model.apply``."""
    after = []
    for i, (layer, p, carry) in enumerate(zip(model.layers, params, carries, strict=True)):
        if goes_on(layer):
            x, carry = layer.scan(p, x, carry)
        else:
            x = layer.apply(p, x, key=model.key(key, i), train=train)
        after.append(carry)
    return x, tuple(after)


def scan_vjp(
    model: Sequential, params: Params, x: Any, carries: Carries, *, key: Array | None = None, train: bool = False
) -> tuple[tuple[Array, Carries], Callable[[Array], Params]]:
    """``((y, carries), pullback)`` by hand, ``pullback(dy) -> dparams``; no gradient for the carries, either end."""
    pullbacks: list[Callable[[Array], tuple[Params, Any]]] = []
    after = []
    for i, (layer, p, carry) in enumerate(zip(model.layers, params, carries, strict=True)):
        if goes_on(layer):
            (x, carry), with_carry = backprop.scan_vjp(layer, p, x, carry)
            pullbacks.append(without_carry(with_carry))
        else:
            x, back = backprop.vjp(layer, p, x, key=model.key(key, i), train=train)
            pullbacks.append(back)
        after.append(carry)

    def pullback(dy: Array) -> Params:
        grads = []
        for back in reversed(pullbacks):
            dparams, dy = back(dy)
            grads.append(dparams)
        return tuple(reversed(grads))

    return (x, tuple(after)), pullback


def without_carry(pullback: Callable[..., Any]) -> Callable[[Array], tuple[Params, Array]]:
    """The pullback of a piece after which nothing depends on the carry."""
    return lambda dy: pullback(dy)[:2]


def value_and_grad(model: Sequential, loss: Loss, engine: Engine = "hand") -> ValueAndGrad:
    """``run(params, (x, y), carries, key) -> ((cost, carries), grads)`` in training, by hand or by autodiff.

    The cost is the mean of the loss over all steps of the piece.
    """

    def by_hand(params: Params, batch: Batch, carries: Carries, key: Array) -> tuple[tuple[Array, Carries], Params]:
        x, target = batch
        (y, carries), pullback = scan_vjp(model, params, x, carries, key=key, train=True)
        losses = loss(y, target)
        return (losses.mean(), carries), pullback(loss_gradient(loss, y, target) / losses.size)

    def cost(params: Params, batch: Batch, carries: Carries, key: Array) -> tuple[Array, Carries]:
        x, target = batch
        y, carries = scan(model, params, x, carries, key=key, train=True)
        return loss(y, target).mean(), carries

    return by_hand if engine == "hand" else jax.value_and_grad(cost, has_aux=True)
