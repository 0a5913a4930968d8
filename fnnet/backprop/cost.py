"""The gradient of a whole cost, by hand: forward through the layers, backward through loss, layers and penalty."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnnet.backprop.losses import FUSED_GRADIENTS, loss_gradient
from fnnet.backprop.penalties import penalty_gradient
from fnnet.backprop.rule import vjp
from fnnet.binding import unbind
from fnnet.cost import Cost, above_zero, split_weighted, spread
from fnnet.layers import Activation, Sequential
from fnnet.types import Array, Batch, Params


def value_and_grad(cost: Cost) -> Callable[..., tuple[Array, Params]]:
    """``value_and_grad(cost)(params, batch, *, key=None, train=False) -> (value, grads)``, by backpropagation.

    Mirrors ``jax.value_and_grad(cost)`` without autodiff: with ``δ = ∂cost/∂prediction = 1/N ∂ℓ/∂prediction``,
    ``δ_l = (W_{l+1}ᵀ δ_{l+1}) ⊙ f'(z_l)`` from the last layer to the first, then the penalty's own gradient added.
    A softmax in front of ``cross_entropy``, or a sigmoid in front of ``binary_cross_entropy``, is taken together with
    it, ``p − y``. Source: Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating errors".
    """
    if not isinstance(cost, Cost):
        raise TypeError(
            f"backprop.value_and_grad: cost is {cost!r}; expected a fnnet.Cost, whose parts have hand-written "
            f"gradients (jax.value_and_grad takes any function)"
        )

    def run(params: Params, batch: Batch, *, key: Array | None = None, train: bool = False) -> tuple[Array, Params]:
        x, target, weights = split_weighted("Cost", batch)
        prediction, pullback = vjp_to_loss(cost, params, x, target, weights, key=key, train=train)
        value = cost.mean_loss(prediction, target, weights)
        grads = pullback()
        if cost.penalty is not None:
            value = value + jnp.asarray(cost.penalty(params)).astype(value.dtype)
            grads = jax.tree.map(jnp.add, grads, penalty_gradient(cost.penalty, params))
        return value, grads

    return run


def grad(cost: Cost) -> Callable[..., Params]:
    """``grad(cost)(params, batch, *, key=None, train=False) -> grads``: mirrors ``jax.grad(cost)``, by hand."""
    both = value_and_grad(cost)

    def run(params: Params, batch: Batch, *, key: Array | None = None, train: bool = False) -> Params:
        return both(params, batch, key=key, train=train)[1]

    return run


def vjp_to_loss(
    cost: Cost, params: Params, x: Array, target: Array, weights: Array | None, **options: Any
) -> tuple[Array, Callable[[], Params]]:
    """The prediction, and a function that gives the gradient of the mean loss with respect to the parameters."""
    fused = fused_gradient(cost)
    if fused is None:
        prediction, pullback = vjp(cost.model, params, x, **options)
        gradients = loss_gradient(cost.loss, prediction, target)
        return prediction, lambda: pullback(of_mean(cost, gradients, target, weights))[0]
    model: Any = cost.model
    model.check(params)
    z, pullback = vjp(Sequential(model.layers[:-1]), params[:-1], x, **options)
    prediction = model.layers[-1].apply(params[-1], z)
    gradients = fused(prediction, target)
    return prediction, lambda: (*pullback(of_mean(cost, gradients, target, weights))[0], params[-1])


def fused_gradient(cost: Cost) -> Callable[..., Array] | None:
    """The common gradient of the loss and of the model's last activation, if there is one."""
    if not isinstance(cost.model, Sequential) or not cost.model.layers:
        return None
    last = cost.model.layers[-1]
    if not isinstance(last, Activation):
        return None
    function, options = unbind(last.function)
    loss, loss_options = unbind(cost.loss)
    fused = FUSED_GRADIENTS.get((function, loss)) if options.get("axis", -1) == -1 else None
    return None if fused is None else partial(fused, **loss_options)


def of_mean(cost: Cost, gradients: Array, target: Array, weights: Array | None = None) -> Array:
    """The gradient of the mean loss from the gradient of each: division by how many there are, or what they weigh."""
    losses = gradients.shape[:-1]
    if weights is not None:
        gradients = gradients * spread(weights, losses).astype(gradients.dtype)[..., None]
    counted = cost.counted(target, weights, losses)
    if counted is None:
        return gradients / (gradients.size // gradients.shape[-1])
    return gradients / above_zero(counted).astype(gradients.dtype)
