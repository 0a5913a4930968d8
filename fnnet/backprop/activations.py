"""Derivatives of the activation functions, by hand.

A rule keeps the least that its derivative needs: sigmoid, tanh and softmax their output ``a``, ReLU one bit per entry.
``da`` is the gradient with respect to the output ``a = f(z)``, ``dz`` that with respect to the input ``z``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from fnnet import activations as f
from fnnet.binding import name_of, unbind
from fnnet.types import ActivationFunction, Array


class ActivationRule(NamedTuple):
    """``forward(z, **options) -> (a, residuals)`` and ``backward(residuals, da, **options) -> dz``."""

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., Array]


def activation_rule(function: ActivationFunction) -> tuple[ActivationRule, dict[str, Any]]:
    """The rule of an activation function and the options bound to it."""
    bare, options = unbind(function)
    try:
        return ACTIVATION_RULES[bare], options
    except KeyError:
        raise TypeError(
            f"backprop: the activation {name_of(bare)} has no hand-written derivative; add one with "
            f"fnnet.backprop.ACTIVATION_RULES[{name_of(bare)}] = fnnet.backprop.ActivationRule(forward, backward)"
        ) from None


def identity_forward(z: Array) -> tuple[Array, tuple[()]]:
    return f.identity(z), ()


def identity_backward(residuals: tuple[()], da: Array) -> Array:
    """a = z  ⇒  dz = da."""
    return da


def sigmoid_forward(z: Array) -> tuple[Array, Array]:
    a = f.sigmoid(z)
    return a, a


def sigmoid_backward(a: Array, da: Array) -> Array:
    """a = σ(z)  ⇒  σ' = a (1 − a),  dz = da ⊙ a (1 − a)."""
    return da * (a * (1 - a))


def tanh_forward(z: Array) -> tuple[Array, Array]:
    a = f.tanh(z)
    return a, a


def tanh_backward(a: Array, da: Array) -> Array:
    """a = tanh(z)  ⇒  tanh' = 1 − a²,  dz = da ⊙ (1 − a) (1 + a).

    The product, unlike 1 − a², does not lose the digits of 1 − a when a is near ±1.
    """
    return da * ((1 - a) * (1 + a))


def relu_forward(z: Array) -> tuple[Array, Array]:
    return f.relu(z), z <= 0


def relu_backward(off: Array, da: Array) -> Array:
    """a = max(z, 0)  ⇒  dz = da ⊙ [z > 0]."""
    return jnp.where(off, 0, da)


def softmax_forward(z: Array, *, axis: int = -1) -> tuple[Array, Array]:
    a = f.softmax(z, axis=axis)
    return a, a


def softmax_backward(a: Array, da: Array, *, axis: int = -1) -> Array:
    """∂a_i/∂z_j = a_i ([i = j] − a_j)  ⇒  dz_j = a_j (da_j − Σ_i da_i a_i)."""
    return a * (da - (da * a).sum(axis, keepdims=True))


def log_softmax_forward(z: Array, *, axis: int = -1) -> tuple[Array, Array]:
    a = f.log_softmax(z, axis=axis)
    return a, a


def log_softmax_backward(a: Array, da: Array, *, axis: int = -1) -> Array:
    """∂a_i/∂z_j = [i = j] − softmax(z)_j and softmax(z) = exp(a)  ⇒  dz_j = da_j − exp(a_j) Σ_i da_i."""
    return da - jnp.exp(a) * da.sum(axis, keepdims=True)


ACTIVATION_RULES: dict[Callable[..., Array], ActivationRule] = {
    f.identity: ActivationRule(identity_forward, identity_backward),
    f.sigmoid: ActivationRule(sigmoid_forward, sigmoid_backward),
    f.tanh: ActivationRule(tanh_forward, tanh_backward),
    f.relu: ActivationRule(relu_forward, relu_backward),
    f.softmax: ActivationRule(softmax_forward, softmax_backward),
    f.log_softmax: ActivationRule(log_softmax_forward, log_softmax_backward),
}
