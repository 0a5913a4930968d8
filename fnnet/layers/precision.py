"""A layer computed in fewer bits than its parameters have."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.layers.combinators import naming, require_layer
from fnnet.layers.nesting import Children
from fnnet.types import Array, DType, Layer, Params, Shaped


@configuration
class LowPrecision:
    """Mixed precision: ``layer`` is computed in ``dtype``, forward and backward.

    Parameters and inputs are rounded to ``dtype`` (bfloat16 or float16). The output has the dtype of the input, or
    float32 where the input is float16 or integers. So parameters, optimizer, loss and penalty stay in float32, and so
    do the gradients of the parameters. It goes around a whole model, ``Cost(LowPrecision(model, "bfloat16"), loss)``,
    and has the parameters of the model.

    In float16 a gradient below 6e-8 rounds to 0: use ``optimizers.dynamic_loss_scale``, or the argument ``loss_scale``
    of the cost. Source: Micikevicius et al. 2018, "Mixed precision training".
    """

    layer: Layer
    dtype: DType = "bfloat16"

    def __post_init__(self) -> None:
        require_layer("LowPrecision", "layer", self.layer)
        object.__setattr__(self, "dtype", jnp.dtype(self.dtype).name)  # so that equal dtypes compare equal
        checks.require(
            jnp.issubdtype(self.dtype, jnp.floating),
            f"LowPrecision: dtype is {self.dtype}; expected 'bfloat16' or 'float16'",
        )

    def children(self) -> Children:
        return (("", self.layer),)

    def init(self, key: Array, x: Shaped) -> Params:
        return self.layer.init(key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        x = checks.array(repr(self), "x", x)
        with naming("the layer of LowPrecision", self.layer):
            y = self.layer.apply(self.low(params), self.low(x), key=key, train=train)
        return y.astype(self.wide(x))

    def low(self, tree: Any) -> Any:
        """Return the arrays in ``dtype``; labels and other integers stay as they are."""
        return jax.tree.map(lambda a: jnp.asarray(a).astype(self.dtype) if checks.is_float(a) else a, tree)

    @staticmethod
    def wide(x: Any) -> DType:
        """Return the dtype of the output: not float16, in which small losses and gradients would round to 0."""
        dtype = checks.dtype_of(x) if checks.is_float(x) else jnp.float32
        return jnp.float32 if dtype == jnp.float16 else dtype
