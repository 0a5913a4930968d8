"""The outputs of the layers."""

from __future__ import annotations

from typing import Any

from fnnet.layers import Sequential
from fnnet.types import Array, Params


def layer_outputs(
    model: Sequential, params: Params, x: Any, *, key: Array | None = None, train: bool = False
) -> tuple[Array, ...]:
    """Return the output of every layer of a ``Sequential``, in order. The last is ``model.apply(params, x)``."""
    model.check(params)
    outputs = []
    for i, (layer, p) in enumerate(zip(model.layers, params, strict=True)):
        x = layer.apply(p, x, key=model.key(key, i), train=train)
        outputs.append(x)
    return tuple(outputs)
