"""The derivative of attention in blocks, by hand."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.attention import Blocks, attention, product
from fnnet.shards import varying_alike
from fnnet.types import Array

Residuals = tuple[Array, Array, Array, Array | None, Array, Array]


def attention_forward(q: Array, k: Array, v: Array, mask: Array | None, blocks: Blocks) -> tuple[Array, Residuals]:
    """``o`` and what the backward pass needs: of the probabilities, one number for each query and head."""
    o, log_sums = attention(q, k, v, mask, blocks)
    return o, (q, k, v, mask, o, log_sums)


@partial(jax.jit, static_argnames="blocks")
def attention_backward(residuals: Residuals, do: Array, blocks: Blocks) -> tuple[Array, Array, Array]:
    """o_i = Σ_j p_ij v_j with p_ij = exp(s_ij − L_i), L_i = ln Σ_j exp(s_ij), s_ij = q_i · k_j / √d  ⇒

        dv_j = Σ_i p_ij do_i,   dp_ij = do_i · v_j,   ds_ij = p_ij (dp_ij − Σ_k p_ik dp_ik),
        dq_i = Σ_j ds_ij k_j / √d,   dk_j = Σ_i ds_ij q_i / √d.

    The inner sum needs no probabilities: Σ_k p_ik dp_ik = do_i · Σ_k p_ik v_k = do_i · o_i. Each block of ``s``, and
    of ``p`` from it, is computed again, from ``L`` without a maximum or a sum. For every block of keys, all blocks of
    queries: ``dk`` and ``dv`` are complete after one such row, ``dq`` is summed up over the rows. Source: Dao et al.
    2022, "FlashAttention", algorithm 4.
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
