"""Scaled dot-product attention in blocks of queries and keys, so that memory grows with the steps and not their square.

    o_i = Σ_j p_ij v_j,   p_ij = exp(s_ij) / Σ_k exp(s_ik),   s_ij = q_i · k_j / √d

(Vaswani et al. 2017, "Attention is all you need", eq. 1). No more than one block of scores exists at a time. Of a
block of queries, the blocks of keys are seen one after the other, and what is summed so far is kept relative to the
largest score so far, ``m`` (the "online softmax" of Milakov and Gimelshein 2018; Rabe and Staats 2021, "Self-attention
does not need O(n²) memory"; Dao et al. 2022, "FlashAttention", algorithm 1):

    m' = max(m, max_j s_j),   z' = e^{m − m'} z + Σ_j e^{s_j − m'},   o' = e^{m − m'} o + Σ_j e^{s_j − m'} v_j

and at the end ``o / z`` is the result and ``m + ln z`` the logarithm of the softmax's denominator.

Letters: ``n`` examples, ``h`` heads, ``q`` and ``k`` steps of a block of queries and of keys, ``d`` features of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.convolution.shards import varying_alike
from fnnet.types import Array, DType

BLOCK = 256  # steps; as measured on CPU


def dot_product_attention(
    q: Any, k: Any, v: Any, *, mask: Array | None = None, causal: bool = False, block: int | None = None
) -> Array:
    """``o_i = Σ_j softmax_j(q_i · k_j / √d) v_j`` over the keys that query ``i`` sees.

    Shapes: ``q``, ``k``, ``v`` and the result ``(N, T, heads, d)``. ``mask (N, T)``, boolean, is True at the keys that
    exist; with ``causal`` a query sees no key later than itself. A query that sees no key gives 0. ``block`` is the
    largest number of steps taken together; it changes time and memory, and the result by rounding alone.

    Softmax and sums are of at least float32. Memory is linear in ``T``, of the gradient by autodiff too: the blocks are
    computed again on the way back. Derivatives of every order exist, forward and reverse.
    """
    q, k, v = jnp.asarray(q), jnp.asarray(k), jnp.asarray(v)
    place = "dot_product_attention"
    checks.require(
        q.ndim == 4 and q.shape == k.shape == v.shape and q.size > 0,
        f"{place}: q, k and v have shapes {q.shape}, {k.shape} and {v.shape}; expected all alike, "
        f"(N, T, heads, features), none of them 0",
    )
    checks.floating(place, "q", q)
    checks.same_dtype(place, "k", k, "q", q)
    checks.same_dtype(place, "v", v, "q", q)
    checks.require(
        mask is None or (mask.shape == q.shape[:2] and mask.dtype == bool),
        f"{place}: mask is {mask}; expected booleans of shape {q.shape[:2]}, True at the keys that exist",
    )
    return attention(q, k, v, mask, Blocks.of(q.shape[1], block, causal))[0]


@dataclass(frozen=True)
class Blocks:
    """``steps`` cut into ``count`` blocks of ``size``, the last filled up with steps that do not exist."""

    steps: int
    size: int
    causal: bool

    @classmethod
    def of(cls, steps: int, largest: int | None, causal: bool) -> Blocks:
        """As few blocks as possible, all alike: of 257 steps, two of 129 rather than one of 256 and a rest of 1."""
        return cls(steps, math.ceil(steps / math.ceil(steps / (largest or BLOCK))), causal)

    @property
    def count(self) -> int:
        return math.ceil(self.steps / self.size)

    @property
    def numbers(self) -> Array:
        return jnp.arange(self.count)

    def cut(self, a: Array) -> Array:
        """``(n, T, h, ...)`` to ``(count, n, h, size, ...)``."""
        a = jnp.pad(a, [(0, 0), (0, self.count * self.size - self.steps)] + [(0, 0)] * (a.ndim - 2))
        a = a.reshape(a.shape[0], self.count, self.size, *a.shape[2:])
        return jnp.moveaxis(jnp.moveaxis(a, 1, 0), 2, 3)

    def join(self, a: Array) -> Array:
        """The inverse of ``cut``."""
        a = jnp.moveaxis(jnp.moveaxis(a, 3, 2), 0, 1)
        return a.reshape(a.shape[0], -1, *a.shape[3:])[:, : self.steps]

    def existing(self, mask: Array | None) -> Array | None:
        """The keys that exist, ``(count, n, size)``, or None if all do."""
        if mask is None and self.count * self.size == self.steps:
            return None
        whole = jnp.ones((1, self.steps), bool) if mask is None else mask
        return self.cut(whole[:, :, None])[:, :, 0]

    def scores(self, q: Array, k: Array, i: Array, j: Array, exists: Array | None) -> Array:
        """``s (n, h, q, k)`` of block ``i`` of the queries and block ``j`` of the keys; −∞ for what is not seen."""
        s = product("nhqd,nhkd->nhqk", q, k) / math.sqrt(q.shape[-1])
        if self.causal:
            within = jnp.arange(self.size)
            s = jnp.where((i * self.size + within)[:, None] >= j * self.size + within, s, -jnp.inf)
        return s if exists is None else jnp.where(exists[:, None, None, :], s, -jnp.inf)

    def unless_later(self, i: Array, j: Array, update: Any, state: Any) -> Any:
        """``update(state)``, or ``state`` as it is where no query of block ``i`` sees a key of block ``j``."""
        return jax.lax.cond(j <= i, update, lambda state: state, state) if self.causal else update(state)


def product(letters: str, a: Array, b: Array) -> Array:
    """``einsum`` summed in at least float32."""
    return jnp.einsum(letters, a, b, preferred_element_type=sum_dtype(a))


def sum_dtype(a: Array) -> DType:
    return checks.at_least_float32(a)


def attention(q: Array, k: Array, v: Array, mask: Array | None, blocks: Blocks) -> tuple[Array, Array]:
    """``o (n, T, h, d)`` and, by blocks, ``ln Σ_j exp(s_ij)``, ``(count, n, h, q)``; +∞ for a query that sees no key.

    What is inside ``jax.checkpoint`` is computed again on the way back instead of being kept. The largest score is a
    constant to autodiff: the result does not depend on what is subtracted.
    """
    keys = blocks.cut(k), blocks.cut(v), blocks.existing(mask), blocks.numbers

    @partial(jax.checkpoint, prevent_cse=False)
    def of_queries(block: tuple[Array, Array]) -> tuple[Array, Array]:
        q, i = block

        @partial(jax.checkpoint, prevent_cse=False)
        def see(state: tuple[Array, Array, Array], block: Any) -> Any:
            k, v, exists, j = block

            def update(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
                o, z, m = state
                s = blocks.scores(q, k, i, j, exists)
                m, before = jax.lax.stop_gradient(jnp.maximum(m, s.max(-1))), m
                kept, p = jnp.exp(before - m), jnp.exp(s - m[..., None])
                o = kept[..., None] * o + product("nhqk,nhkd->nhqd", p.astype(v.dtype), v)
                return o, kept * z + p.sum(-1), m

            return blocks.unless_later(i, j, update, state), None

        nothing = jnp.zeros(q.shape, sum_dtype(q))
        lowest = jnp.full(q.shape[:-1], jnp.finfo(nothing.dtype).min)  # −∞ less −∞ would be NaN
        *start, _ = varying_alike(nothing, nothing[..., 0], lowest.astype(nothing.dtype), q)
        (o, z, m), _ = jax.lax.scan(see, tuple(start), keys)
        nothing_seen = z == 0
        z = jnp.where(nothing_seen, 1, z)
        return (o / z[..., None]).astype(q.dtype), jnp.where(nothing_seen, jnp.inf, m + jnp.log(z))

    o, log_sums = jax.lax.map(of_queries, (blocks.cut(q), blocks.numbers))
    return blocks.join(o), log_sums
