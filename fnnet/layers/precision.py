"""A layer computed in fewer bits than its parameters are kept in."""

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
    """Mixed precision: ``layer`` computed in ``dtype``, forward and backward, between inputs and outputs of their own.

    Parameters and inputs are rounded to ``dtype`` (bfloat16 or float16), the output is given in the input's dtype,
    for float16 and integers in float32: parameters, optimizer, loss and penalty stay in float32, and so do the
    gradients that arrive at them. Around a whole model: ``Cost(LowPrecision(model, "bfloat16"), loss)``, whose
    ``params`` are the model's own.

    ``scale`` multiplies the gradient ``∂cost/∂y`` before it is rounded, and what comes out of the backward pass is
    divided by it: in float16 a gradient below 6e-8 would be 0. It is not given by hand but by ``train_step`` from the
    state of ``optimizers.dynamic_loss_scale``. Source: Micikevicius et al. 2018, "Mixed precision training".
    """

    layer: Layer
    dtype: DType = "bfloat16"
    scale: Any = None

    def __post_init__(self) -> None:
        require_layer("LowPrecision", "layer", self.layer)
        object.__setattr__(self, "dtype", jnp.dtype(self.dtype).name)  # equal however it was written
        checks.require(
            jnp.issubdtype(self.dtype, jnp.floating),
            f"LowPrecision: dtype is {self.dtype}; expected 'bfloat16' or 'float16'",
        )

    def children(self) -> Children:
        return (("", self.layer),)

    def init(self, key: Array, x: Shaped) -> Params:
        return self.layer.init(key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        x = jnp.asarray(x)
        if self.scale is not None:
            back = 1 / jnp.asarray(self.scale)
            params = jax.tree.map(lambda p: scaled_cotangent(p, back) if checks.is_float(p) else p, params)
            x = scaled_cotangent(x, back) if checks.is_float(x) else x
        with naming("the layer of LowPrecision", self.layer):
            y = self.layer.apply(self.low(params), self.low(x), key=key, train=train)
        y = y.astype(self.wide(x))
        return y if self.scale is None else scaled_cotangent(y, jnp.asarray(self.scale))

    def low(self, tree: Any) -> Any:
        """In the few bits; labels and other integers as they are."""
        return jax.tree.map(lambda a: jnp.asarray(a).astype(self.dtype) if checks.is_float(a) else a, tree)

    @staticmethod
    def wide(x: Any) -> DType:
        """The dtype of the output: in float16 the loss, and the gradient before it is scaled, would be rounded to 0."""
        dtype = checks.dtype_of(x) if checks.is_float(x) else jnp.float32
        return jnp.float32 if dtype == jnp.float16 else dtype


@jax.custom_vjp
def scaled_cotangent(x: Array, scale: Array) -> Array:
    """``x``; its gradient is multiplied by ``scale``."""
    return x


scaled_cotangent.defvjp(lambda x, scale: (x, scale), lambda scale, dy: (times(dy, scale), jnp.zeros_like(scale)))


def times(a: Array, scale: Any) -> Array:
    """``a · scale`` in the dtype of ``a``; the scale itself may be more than that holds."""
    wide = checks.at_least_float32(a)
    return (a.astype(wide) * jnp.asarray(scale).astype(wide)).astype(a.dtype)
