"""The rule of ``GaussianNoise``."""

from __future__ import annotations

from fnnet.backprop.rule import RULES, Rule, keep_nothing
from fnnet.layers import GaussianNoise
from fnnet.types import Array, Params


def gaussian_noise_backward(
    layer: GaussianNoise, params: Params, residuals: tuple[()], dy: Array
) -> tuple[Params, Array]:
    """y = x + noise that does not depend on x  ⇒  dx = dy."""
    return {}, dy


RULES[GaussianNoise] = Rule(keep_nothing, gaussian_noise_backward)
