"""Apply a stack of layers to a stream that arrives in segments: every recurrent layer continues from its carry.

This is truncated backpropagation through time (Williams and Peng 1990): values flow from segment to segment, gradients
do not. ``x (N, T, ...)`` is the next segment of ``N`` streams. ``carries`` is a tuple with one entry for each layer:
the carry of its ``scan``, or ``()`` for a layer that has none.
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
    """Return the carries at the start of a stream, which are zero."""
    return tuple(inner_of(layer).cell.initial_carry(streams, dtype) if goes_on(layer) else () for layer in model.layers)


def goes_on(layer: Layer) -> TypeGuard[Scanned]:
    """Return whether the layer continues from segment to segment.

    Raises ``TypeError`` for a layer that runs backwards in time, since it would need the segments to come.
    """
    if not hasattr(layer, "scan"):
        return False
    if isinstance(layer, Bidirectional) or inner_of(layer).reverse:
        raise TypeError(
            f"streaming: {layer!r} runs backwards in time and needs segments that have not arrived yet; "
            "expected layers that run forwards"
        )
    return True


def inner_of(layer: Any) -> Recurrent:
    return layer if isinstance(layer, Recurrent) else layer.layer


def scan(
    model: Sequential, params: Params, x: Any, carries: Carries, *, key: Array | None = None, train: bool = False
) -> tuple[Array, Carries]:
    """Return ``(y, carries)``: the model's outputs over the next segment, and the carries after it.

    From zero carries, ``y`` is that of ``model.apply``.
    """
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
    """Return ``((y, carries), pullback)`` with ``pullback(dy) -> dparams``, computed by hand.

    The carries before and after the segment get no gradient.
    """
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
    """Return the pullback of a segment whose last carry gets no gradient."""
    return lambda dy: pullback(dy)[:2]


def value_and_grad(model: Sequential, loss: Loss, engine: Engine = "hand") -> ValueAndGrad:
    """Return ``run(params, (x, y), carries, key) -> ((cost, carries), grads)`` for training, by hand or by autodiff.

    The cost is the mean of the loss over all steps of the segment.
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
