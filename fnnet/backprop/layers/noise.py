"""The rules of the layers that add noise in training."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.backprop.rule import RULES, Rule
from fnnet.layers import Dropout, GaussianNoise
from fnnet.types import Array, Params


def dropout_forward(
    layer: Dropout, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, Array | None]:
    if not train:
        return x, None
    mask = layer.mask(key, x)
    return jnp.where(mask, x / (1 - layer.rate), 0), mask


def dropout_backward(layer: Dropout, params: Params, mask: Array | None, dy: Array) -> tuple[Params, Array]:
    """y = m ⊙ x / (1 − rate)  ⇒  dx = m ⊙ dy / (1 − rate), with the mask of the forward pass."""
    return {}, dy if mask is None else jnp.where(mask, dy / (1 - layer.rate), 0)


def gaussian_noise_forward(
    layer: GaussianNoise, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, tuple[()]]:
    return layer.apply(params, x, key=key, train=train), ()


def gaussian_noise_backward(
    layer: GaussianNoise, params: Params, residuals: tuple[()], dy: Array
) -> tuple[Params, Array]:
    """y = x + noise that does not depend on x  ⇒  dx = dy."""
    return {}, dy


RULES[Dropout] = Rule(dropout_forward, dropout_backward)
RULES[GaussianNoise] = Rule(gaussian_noise_forward, gaussian_noise_backward)
