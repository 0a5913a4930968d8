"""The rules of attention and of ``MultiHeadAttention``."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.backprop.rule import RULES, Rule, check_cotangent
from fnnet.layers.attention import AttentionBlocks, MultiHeadAttention, blockwise_attention, product
from fnnet.layers.positions import rotate
from fnnet.shards import varying_alike
from fnnet.types import Array, Params

AttentionResiduals = tuple[Array, Array, Array, Array | None, Array, Array]


def attention_forward(
    q: Array, k: Array, v: Array, mask: Array | None, blocks: AttentionBlocks
) -> tuple[Array, AttentionResiduals]:
    """Return ``o`` and the residuals, which hold one number of each query and head in place of the probabilities."""
    o, log_sums = blockwise_attention(q, k, v, mask, blocks)
    return o, (q, k, v, mask, o, log_sums)


@partial(jax.jit, static_argnames="blocks")
def attention_backward(residuals: AttentionResiduals, do: Array, blocks: AttentionBlocks) -> tuple[Array, Array, Array]:
    """o_i = Σ_j p_ij v_j with p_ij = exp(s_ij − L_i), L_i = ln Σ_j exp(s_ij), s_ij = q_i · k_j / √d  ⇒

        dv_j = Σ_i p_ij do_i,   dp_ij = do_i · v_j,   ds_ij = p_ij (dp_ij − Σ_k p_ik dp_ik),
        dq_i = Σ_j ds_ij k_j / √d,   dk_j = Σ_i ds_ij q_i / √d.

    The inner sum needs no probabilities: Σ_k p_ik dp_ik = do_i · Σ_k p_ik v_k = do_i · o_i. Each block of s, and p
    from it, is computed again; with L this needs no maximum and no sum. The outer loop runs over blocks of keys, the
    inner one over blocks of queries: dk and dv of a block are complete after one inner loop, dq is summed over the
    outer one. Source: Dao et al. 2022, "FlashAttention", algorithm 4.
    """
    q, k, v, mask, o, log_sums = residuals
    dtype = checks.at_least_float32(q)
    scale = 1 / math.sqrt(q.shape[-1])
    inner = (do.astype(dtype) * o.astype(dtype)).sum(-1)

    def of_rows(group: Any) -> tuple[Array, tuple[Array, Array]]:
        qs, dos, log_sums, inners, *keys = group
        queries = qs, dos, log_sums, inners, blocks.numbers
        start, _ = varying_alike(jnp.zeros(qs.shape, dtype), qs)
        return jax.lax.scan(partial(of_keys, queries), start, (*keys, blocks.numbers))

    def of_keys(queries: Any, dqs: Array, block: Any) -> tuple[Array, tuple[Array, Array]]:
        k, v, exists, j = block

        def see(sums: tuple[Array, Array], block: Any) -> tuple[tuple[Array, Array], Array]:
            q, do, log_sum, inner, i, dq = block

            def update(sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
                dk, dv, dq = sums
                p = jnp.exp(blocks.scores(q, k, i, j, exists) - log_sum[..., None])
                dp = product("rqd,rkd->rqk", do, v)
                ds = (scale * p * (dp - inner[..., None])).astype(q.dtype)
                dv = dv + product("rqk,rqd->rkd", p.astype(q.dtype), do)
                return dk + product("rqk,rqd->rkd", ds, q), dv, dq + product("rqk,rkd->rqd", ds, k)

            dk, dv, dq = blocks.unless_later(i, j, update, (*sums, dq))
            return (dk, dv), dq

        nothing, _ = varying_alike(jnp.zeros(k.shape, dtype), k)
        (dk, dv), dqs = jax.lax.scan(see, (nothing, nothing), (*queries, dqs))
        return dqs, (dk, dv)

    cut = blocks.cut
    groups = cut(q), cut(do), log_sums, cut(inner), cut(k), cut(v), blocks.existing(mask)
    dqs, (dks, dvs) = jax.lax.map(of_rows, groups)
    dq, dk, dv = (blocks.join(a).astype(q.dtype) for a in (dqs, dks, dvs))
    return dq, dk, dv


def attend_vjp(
    layer: MultiHeadAttention, params: Params, x: Array, mask: Array | None = None
) -> tuple[Array, Callable[[Array], tuple[Params, Array]]]:
    """Return ``(y, pullback)`` of ``layer.attend``, by hand, with ``pullback(dy) -> (dparams, dx)``.

    It equals ``jax.vjp(lambda params, x: layer.attend(params, x, mask), params, x)``.
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

    summed over examples and steps. R is the rotation, Rᵀ the rotation back. Steps that do not exist have y = 0 and
    x = 0, whatever they hold, so that no gradient passes through them.
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
