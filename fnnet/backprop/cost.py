"""The gradient of a whole cost by hand: forward through the layers, backward through loss, layers and penalty."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from fnnet.backprop.losses import FUSED_GRADIENTS, loss_gradient
from fnnet.backprop.penalties import penalty_gradient
from fnnet.backprop.rule import vjp
from fnnet.binding import unbind
from fnnet.cost import Cost, above_zero, times_scale
from fnnet.layers import Activation, Sequential
from fnnet.shards import automatic, spec_of
from fnnet.types import Array, Batch, Params, Scalar


def value_and_grad(cost: Cost) -> Callable[..., tuple[Array, Params]]:
    """Return ``f(params, batch, *, key=None, train=False, loss_scale=None) -> (value, grads)``, by backpropagation.

    It mirrors ``jax.value_and_grad(cost)`` without autodiff: ``δ = ∂cost/∂prediction = 1/N ∂ℓ/∂prediction`` goes back
    as ``δ_l = (W_{l+1}ᵀ δ_{l+1}) ⊙ f'(z_l)`` from the last layer to the first; then the penalty's own gradient is
    added. A softmax before ``cross_entropy``, or a sigmoid before ``binary_cross_entropy``, is taken together with the
    loss as ``p − y``. A loss scale multiplies ``δ`` and the penalty's gradient.

    Source: Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating errors".
    """
    if not isinstance(cost, Cost):
        raise TypeError(
            f"backprop.value_and_grad: cost is {cost!r}; expected a fnnet.Cost, whose loss, layers and penalty have "
            f"hand-written gradients (jax.value_and_grad takes any function)"
        )

    def run(
        params: Params,
        batch: Batch,
        *,
        key: Array | None = None,
        train: bool = False,
        loss_scale: Scalar | None = None,
    ) -> tuple[Array, Params]:
        out = PartitionSpec(), jax.tree.map(spec_of, params)
        return automatic(partial(both, train), out, params, batch, key, loss_scale)

    def both(
        train: bool, params: Params, batch: Batch, key: Array | None, loss_scale: Scalar | None
    ) -> tuple[Array, Params]:
        x, target, weights = cost.counted_batch("Cost", batch)
        prediction, gradients, pullback = to_loss(cost, params, x, target, key=key, train=train)
        value = cost.total(cost.mean_loss(prediction, target, weights), params, loss_scale)
        grads, _ = pullback(of_mean(cost, gradients, target, weights, loss_scale))
        if cost.penalty is not None:
            of_penalty = penalty_gradient(cost.penalty, params)
            if loss_scale is not None:
                of_penalty = jax.tree.map(lambda g: times_scale(g, loss_scale).astype(g.dtype), of_penalty)
            grads = jax.tree.map(jnp.add, grads, of_penalty)
        return value, grads

    return run


def grad(cost: Cost) -> Callable[..., Params]:
    """Return ``f(params, batch, *, key=None, train=False, loss_scale=None) -> grads``, as ``jax.grad(cost)`` does."""
    both = value_and_grad(cost)
    return lambda params, batch, **options: both(params, batch, **options)[1]


def input_gradient(cost: Cost, params: Params, batch: Batch, **options: Any) -> Array:
    """Return the gradient of the cost with respect to its inputs ``x``, by hand."""
    x, target, weights = cost.counted_batch("Cost", batch)
    _, gradients, pullback = to_loss(cost, params, x, target, **options)
    return pullback(of_mean(cost, gradients, target, weights))[1]


def to_loss(
    cost: Cost, params: Params, x: Array, target: Array, **options: Any
) -> tuple[Array, Array, Callable[[Array], tuple[Params, Array]]]:
    """Return the prediction, the gradient of each example's loss, and the function from it to ``(dparams, dx)``."""
    labels = cost.known_labels(target)
    fused = fused_gradient(cost)
    if fused is None:
        prediction, pullback = vjp(cost.model, params, x, **options)
        return prediction, loss_gradient(cost.loss, prediction, labels), pullback
    model: Any = cost.model
    model.check(params)
    z, pullback = vjp(Sequential(model.layers[:-1]), params[:-1], x, **options)
    prediction = model.layers[-1].apply(params[-1], z)

    def through_layers(dz: Array) -> tuple[Params, Array]:
        dparams, dx = pullback(dz)
        return (*dparams, params[-1]), dx

    return prediction, fused(prediction, labels), through_layers


def fused_gradient(cost: Cost) -> Callable[..., Array] | None:
    """Return the gradient of the loss and of the model's last activation together, or None if there is none."""
    if not isinstance(cost.model, Sequential) or not cost.model.layers:
        return None
    last = cost.model.layers[-1]
    if not isinstance(last, Activation):
        return None
    function, options = unbind(last.function)
    loss, loss_options = unbind(cost.loss)
    fused = FUSED_GRADIENTS.get((function, loss)) if options.get("axis", -1) == -1 else None
    return None if fused is None else partial(fused, **loss_options)


def of_mean(
    cost: Cost, gradients: Array, target: Array, weights: Array | None = None, loss_scale: Scalar | None = None
) -> Array:
    """Return the gradient of the mean loss from those of the losses, ``w_n / Σ w`` times each; 0 where ``w_n`` is 0."""
    if loss_scale is not None:
        return of_mean(cost, times_scale(gradients, loss_scale), target, weights).astype(gradients.dtype)
    each = cost.loss_weights(target, weights, gradients.shape[:-1])
    if each is None:
        return gradients / (gradients.size // gradients.shape[-1])
    counted, each = above_zero(each.sum()).astype(gradients.dtype), each[..., None]
    return jnp.where(each == 0, 0, gradients * each.astype(gradients.dtype)) / counted
