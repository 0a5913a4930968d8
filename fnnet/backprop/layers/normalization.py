"""The rule of all normalizations, which differ only in which numbers are normalized together."""

from __future__ import annotations

from fnnet.backprop.layers.affine import scale_and_shift_gradients
from fnnet.backprop.rule import RULES, Rule
from fnnet.layers import BatchNorm, GroupNorm, LayerNorm
from fnnet.layers.normalization import MeanVariance, Normalization, normalized, standardized
from fnnet.types import Array, Params


def normalization_forward(
    layer: Normalization, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, tuple[Array, MeanVariance]]:
    y, at = normalized(layer, params, x)
    return y, (x, at)  # x̂ is computed again from these


def normalization_backward(
    layer: Normalization, params: Params, residuals: tuple[Array, MeanVariance], dy: Array
) -> tuple[Params, Array]:
    """x̂ = (x − μ) r with r = 1 / √(σ² + ε), y = x̂ ⊙ scale + shift  ⇒  dscale = Σ x̂ ⊙ dy,  dshift = Σ dy and, with
    dx̂ = dy ⊙ scale,  dx = r (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂)), the means over the numbers normalized together.

    The two means come from μ and σ: ∂μ/∂x = 1/n and ∂r/∂x = −r² x̂ / n. dx is orthogonal to 1 and, apart from ε, to
    x̂: a step along dx does not change what normalization takes away.
    """
    x, at = residuals
    groups = layer.groups_of(x.shape)
    x_hat = standardized(x.reshape(groups.shape), at, layer.epsilon)
    dx_hat = (dy * params["scale"]).reshape(groups.shape).astype(x_hat.dtype)
    mean = dx_hat.mean(groups.axes, keepdims=True)
    along = (dx_hat * x_hat).mean(groups.axes, keepdims=True)
    dx = at.inverse_deviation(layer.epsilon) * (dx_hat - mean - x_hat * along)
    dparams = scale_and_shift_gradients(x_hat.reshape(x.shape).astype(x.dtype), dy)
    return dparams, dx.reshape(x.shape).astype(x.dtype)


for _normalization in (LayerNorm, GroupNorm, BatchNorm):
    RULES[_normalization] = Rule(normalization_forward, normalization_backward)
