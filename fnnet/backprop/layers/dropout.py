"""The rule of ``Dropout``: the mask of the forward pass."""

from __future__ import annotations

from fnnet.backprop.rule import RULES, Rule
from fnnet.layers import Dropout
from fnnet.types import Array, Params


def dropout_forward(
    layer: Dropout, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, Array | None]:
    if not train:
        return x, None
    mask = layer.mask(key, x)
    return layer.dropped(mask, x), mask


def dropout_backward(layer: Dropout, params: Params, mask: Array | None, dy: Array) -> tuple[Params, Array]:
    """y = m ⊙ x / (1 − rate)  ⇒  dx = m ⊙ dy / (1 − rate), with the mask of the forward pass."""
    return {}, dy if mask is None else layer.dropped(mask, dy)


RULES[Dropout] = Rule(dropout_forward, dropout_backward)
