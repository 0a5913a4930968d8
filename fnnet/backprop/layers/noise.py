"""The rule of ``GaussianNoise``."""

from __future__ import annotations

from fnnet.backprop.rule import RULES, Rule
from fnnet.layers import GaussianNoise
from fnnet.types import Array, Params


def gaussian_noise_forward(
    layer: GaussianNoise, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, tuple[()]]:
    return layer.apply(params, x, key=key, train=train), ()


def gaussian_noise_backward(
    layer: GaussianNoise, params: Params, residuals: tuple[()], dy: Array
) -> tuple[Params, Array]:
    """y = x + noise that does not depend on x  ⇒  dx = dy."""
    return {}, dy


RULES[GaussianNoise] = Rule(gaussian_noise_forward, gaussian_noise_backward)
