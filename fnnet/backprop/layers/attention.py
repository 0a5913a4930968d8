"""The rule of self-attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from fnnet.backprop.attention import attention_backward, attention_forward
from fnnet.backprop.rule import RULES, Rule, check_cotangent
from fnnet.layers.attention import MultiHeadAttention
from fnnet.layers.positions import rotate
from fnnet.types import Array, Params


def attend_vjp(
    layer: MultiHeadAttention, params: Params, x: Array, mask: Array | None = None
) -> tuple[Array, Callable[[Array], tuple[Params, Array]]]:
    """``(y, pullback)`` of ``layer.attend``, by hand: ``pullback(dy) -> (dparams, dx)``.

    Equals ``jax.vjp(lambda params, x: layer.attend(params, x, mask), params, x)``.
    """
    y, residuals = attend_forward(layer, params, x, mask)

    def pullback(dy: Array) -> tuple[Params, Array]:
        check_cotangent("backprop.attend_vjp", layer, dy, y)
        return attend_backward(layer, params, residuals, dy)

    return y, pullback


def attend_forward(layer: MultiHeadAttention, params: Params, x: Any, mask: Array | None) -> tuple[Array, Any]:
    x, mask = layer.checked(params, x, mask)
    q, k, v = layer.project(params, x)
    o, residuals = attention_forward(q, k, v, mask, layer.blocks(q))
    return layer.output(params, o, mask), (x, mask, o, residuals)


def attend_backward(layer: MultiHeadAttention, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
    """y = o w_o + b_o with o = attention(q, k, v), q = R (x w_q + b_q), k = R x w_k, v = x w_v + b_v  ⇒

        dw_o = Σ oᵀ dy,  db_o = Σ dy,  do = dy w_oᵀ;   dq, dk, dv from do, and Rᵀ of the first two;
        dw_a = Σ xᵀ da and db_a = Σ da for a = q, k, v;   dx = dq w_qᵀ + dk w_kᵀ + dv w_vᵀ,

    summed over examples and steps. R is the rotation, its transpose the rotation back. Steps that do not exist have
    y = 0 and x = 0 whatever they hold: neither gets a gradient.
    """
    x, mask, o, of_attention = residuals
    dy = dy if mask is None else jnp.where(mask[..., None], dy, 0)
    do = (dy @ params["w_o"].T).reshape(o.shape)
    dq, dk, dv = attention_backward(of_attention, do, layer.blocks(o))
    if layer.rotary:
        dq, dk = rotate(dq, back=True), rotate(dk, back=True)
    gradients = {name: layer.side_by_side(a) for name, a in (("q", dq), ("k", dk), ("v", dv))}
    dparams = {f"w_{name}": jnp.einsum("ntd,nth->dh", x, da) for name, da in gradients.items()}
    dparams["w_o"] = jnp.einsum("nth,ntd->hd", layer.side_by_side(o), dy)
    if layer.use_bias:
        biased = {"b_q": gradients["q"], "b_v": gradients["v"], "b_o": dy}
        dparams |= {name: da.sum((0, 1)) for name, da in biased.items()}
    dx = sum(da @ params[f"w_{name}"].T for name, da in gradients.items())
    return dparams, dx if mask is None else jnp.where(mask[..., None], dx, 0)


def multi_head_attention_forward(
    layer: MultiHeadAttention, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, Any]:
    return attend_forward(layer, params, x, None)


RULES[MultiHeadAttention] = Rule(multi_head_attention_forward, attend_backward)
