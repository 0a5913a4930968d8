"""Gradients of the losses with respect to the prediction, by hand.

Each function has the loss's own arguments and returns ``∂ℓ_n/∂prediction_n`` for every example, in the prediction's
shape: the gradient of an example's loss, before the mean over the examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from fnnet import activations, checks, losses
from fnnet.binding import name_of, unbind
from fnnet.types import Array, Loss


def loss_gradient(loss: Loss, prediction: Array, target: Array) -> Array:
    """``∂ℓ_n/∂prediction_n`` by the hand-written rule of ``loss``."""
    bare, options = unbind(loss)
    try:
        gradient = LOSS_GRADIENTS[bare]
    except KeyError:
        raise TypeError(
            f"backprop: the loss {name_of(bare)} has no hand-written gradient; add one with "
            f"fnnet.backprop.LOSS_GRADIENTS[{name_of(bare)}] = gradient(prediction, target)"
        ) from None
    return gradient(prediction, target, **options)


def squared_error(prediction: Array, target: Array) -> Array:
    """ℓ = 1/K Σ_k (ŷ_k − y_k)²  ⇒  ∂ℓ/∂ŷ_k = 2/K (ŷ_k − y_k)."""
    prediction, target = losses.regression("losses.squared_error", prediction, target)
    return (prediction - target) * (2 / prediction.shape[-1])


def half_squared_error(prediction: Array, target: Array) -> Array:
    """ℓ = ½ Σ_k (ŷ_k − y_k)²  ⇒  ∂ℓ/∂ŷ_k = ŷ_k − y_k."""
    prediction, target = losses.regression("losses.half_squared_error", prediction, target)
    return prediction - target


def binary_cross_entropy(prediction: Array, target: Array) -> Array:
    """ℓ = −Σ_k y_k log p_k + (1 − y_k) log(1 − p_k)  ⇒  ∂ℓ/∂p_k = (1 − y_k) / (1 − p_k) − y_k / p_k.

    A term whose factor is 0 is 0, also where its denominator is 0.
    """
    p, y = losses.binary("losses.binary_cross_entropy", prediction, target)
    return (1 - y) / (1 - jnp.where(y == 1, 0, p)) - y / jnp.where(y == 0, 1, p)


def sigmoid_cross_entropy(prediction: Array, target: Array) -> Array:
    """ℓ = Σ_k y_k s(−z_k) + (1 − y_k) s(z_k) and s' = σ  ⇒  ∂ℓ/∂z_k = (1 − y_k) σ(z_k) − y_k σ(−z_k).

    This is σ(z_k) − y_k without the cancellation when the two are close.
    """
    z, y = losses.binary("losses.sigmoid_cross_entropy", prediction, target)
    return (1 - y) * activations.sigmoid(z) - y * activations.sigmoid(-z)


def cross_entropy(prediction: Array, target: Array) -> Array:
    """ℓ = −Σ_c y_c log p_c  ⇒  ∂ℓ/∂p_c = −y_c / p_c; for a label, y_c = [c = label]. 0 where y_c is 0."""
    p = jnp.asarray(prediction)
    y, valid = distribution("losses.cross_entropy", p, target)
    return valid * (-y / jnp.where(y == 0, 1, p))


def softmax_cross_entropy(prediction: Array, target: Array) -> Array:
    """ℓ = −Σ_c y_c log p_c with p = softmax(z)  ⇒  ∂ℓ/∂z_c = p_c Σ_j y_j − y_c.

    For a label, or a distribution that sums to 1, this is the textbook's ``p − y``.
    """
    z = jnp.asarray(prediction)
    return softmax_then_cross_entropy(activations.softmax(z), target)


def softmax_then_cross_entropy(p: Array, target: Array) -> Array:
    """Softmax and cross-entropy as one: from ``p = softmax(z)``, ∂ℓ/∂z_c = p_c Σ_j y_j − y_c.

    By the chain rule through ``∂ℓ/∂p = −y / p`` it would divide by a probability and multiply by it again, and give
    NaN where that underflows; as one it cancels on paper.
    """
    y, valid = distribution("losses.cross_entropy", p, target)
    return valid * (p * y.sum(-1, keepdims=True) - y)


def sigmoid_then_binary_cross_entropy(p: Array, target: Array) -> Array:
    """Sigmoid and binary cross-entropy as one: from ``p = σ(z)``, ∂ℓ/∂z_k = p_k − y_k."""
    p, y = losses.binary("losses.binary_cross_entropy", p, target)
    return p - y


def distribution(place: str, prediction: Array, target: Any) -> tuple[Array, Array]:
    """The target as a distribution over the classes, and per example 1, or NaN for a label out of range."""
    target = jnp.asarray(target)
    checks.floating(place, "prediction", prediction)
    if not checks.class_target(place, prediction, target):
        return target.astype(prediction.dtype), jnp.ones((), prediction.dtype)
    classes = prediction.shape[-1]
    y = losses.one_hot(target, classes).astype(prediction.dtype)
    return y, jnp.where(losses.in_classes(target, classes), 1, jnp.nan).astype(prediction.dtype)[..., None]


LOSS_GRADIENTS: dict[Callable[..., Array], Callable[..., Array]] = {
    losses.squared_error: squared_error,
    losses.half_squared_error: half_squared_error,
    losses.binary_cross_entropy: binary_cross_entropy,
    losses.sigmoid_cross_entropy: sigmoid_cross_entropy,
    losses.cross_entropy: cross_entropy,
    losses.softmax_cross_entropy: softmax_cross_entropy,
}

# (activation of the last layer, loss) -> gradient with respect to that activation's input, given its output
FUSED_GRADIENTS: dict[tuple[Callable[..., Array], Callable[..., Array]], Callable[..., Array]] = {
    (activations.softmax, losses.cross_entropy): softmax_then_cross_entropy,
    (activations.sigmoid, losses.binary_cross_entropy): sigmoid_then_binary_cross_entropy,
}
