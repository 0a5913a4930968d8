"""The fully connected layer."""

from __future__ import annotations

from typing import Any

import jax

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.initializers import he_normal, zeros
from fnnet.types import Array, Initializer, Params, Shaped


@configuration
class Dense:
    """The fully connected layer, an affine map of the last axis: ``y = x w + b``, one neuron per column of ``w``.

    Shapes: ``x (..., D)``, ``w (D, H)``, ``b (H,)``, ``y (..., H)``. Rows are examples; the textbook's column form
    ``Z = W X + b`` has ``W = wᵀ`` and ``X = xᵀ``. ``w`` starts He-normal with variance ``2 / D`` (He et al. 2015,
    eq. 10) and ``b`` at zero; ``use_bias=False`` leaves ``b`` out. Cost: ``2 N D H`` operations forward, twice that
    backward.
    """

    features: int
    use_bias: bool = True
    w_init: Initializer = he_normal
    b_init: Initializer = zeros

    def __post_init__(self) -> None:
        checks.positive_integer("Dense", "features", self.features)

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        shape, dtype = (checks.features_of(repr(self), x), self.features), checks.dtype_of(x)
        if not self.use_bias:
            return {"w": self.w_init(key, shape, dtype)}
        w_key, b_key = jax.random.split(key)
        return {"w": self.w_init(w_key, shape, dtype), "b": self.b_init(b_key, (self.features,), dtype)}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        b = {"b": (self.features,)} if self.use_bias else {}
        checks.parameters(repr(self), params, x, w=(checks.features_of(repr(self), x), self.features), **b)
        y = x @ params["w"]
        return y + params["b"] if self.use_bias else y
