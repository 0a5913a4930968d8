"""Scaled dot-product attention in blocks of queries and keys, so that memory grows with the steps and not their square.

    o_i = Σ_j p_ij v_j,   p_ij = exp(s_ij) / Σ_k exp(s_ik),   s_ij = q_i · k_j / √d

(Vaswani et al. 2017, "Attention is all you need", eq. 1). No more than one block of scores exists at a time. Of a
block of queries, the blocks of keys are seen one after the other, and what is summed so far is kept relative to the
largest score so far, ``m`` (the "online softmax" of Milakov and Gimelshein 2018; Rabe and Staats 2021, "Self-attention
does not need O(n²) memory"; Dao et al. 2022, "FlashAttention", algorithm 1):

    m' = max(m, max_j s_j),   z' = e^{m − m'} z + Σ_j e^{s_j − m'},   o' = e^{m − m'} o + Σ_j e^{s_j − m'} v_j

and at the end ``o / z`` is the result and ``m + ln z`` the logarithm of the softmax's denominator.

Letters: ``r`` rows, that is, pairs of an example and a head; ``q`` and ``k`` steps of a block of queries and of keys;
``d`` features of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.shards import varying_alike
from fnnet.types import Array, Shape

BLOCK = 512  # steps
SCORES = 2**20  # at a time: 4 MiB in float32, as measured on CPU; fewer rows where blocks are large


def dot_product_attention(
    q: Any, k: Any, v: Any, *, mask: Array | None = None, causal: bool = False, block: int | None = None
) -> Array:
    """``o_i = Σ_j softmax_j(q_i · k_j / √d) v_j`` over the keys that query ``i`` sees.

    Shapes: ``q``, ``k``, ``v`` and the result ``(N, T, heads, d)``. ``mask (N, T)``, boolean, is True at the keys that
    exist: what the others and their values hold changes nothing. With ``causal`` a query sees no key later than itself.
    A query that sees no key gives 0. ``block`` is the largest number of steps taken together; it changes time and
    memory, and the result by rounding alone.

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
    if block is not None:
        checks.positive_integer(place, "block", block)
    if mask is not None:
        mask = jnp.asarray(mask)
        checks.require(
            mask.shape == q.shape[:2] and mask.dtype == bool,
            f"{place}: mask has shape {mask.shape} and dtype {mask.dtype}; expected {q.shape[:2]}, boolean, True at "
            f"the keys that exist",
        )
        k, v = (jnp.where(mask[..., None, None], a, 0) for a in (k, v))  # NaN times 0 would stay NaN
    return attention(q, k, v, mask, Blocks.of(q.shape, block, causal))[0]


@dataclass(frozen=True)
class Blocks:
    """``(N, T, heads, ...)`` as ``groups`` of ``rows`` and ``count`` blocks of ``size`` steps.

    The last of each is filled up, with rows of zeros and with steps that do not exist.
    """

    shape: tuple[int, int, int]
    rows: int
    size: int
    causal: bool

    @classmethod
    def of(cls, shape: Shape, largest: int | None, causal: bool) -> Blocks:
        """As few as possible, all alike: of 600 steps, two blocks of 300 rather than one of 512 and a rest of 88."""
        examples, steps, heads = shape[:3]
        size = evenly(steps, largest or BLOCK)
        return cls((examples, steps, heads), evenly(examples * heads, max(1, SCORES // size**2)), size, causal)

    @property
    def groups(self) -> int:
        return math.ceil(self.shape[0] * self.shape[2] / self.rows)

    @property
    def count(self) -> int:
        return math.ceil(self.shape[1] / self.size)

    @property
    def numbers(self) -> Array:
        return jnp.arange(self.count)

    def cut(self, a: Array) -> Array:
        """``(N, T, heads, ...)`` to ``(groups, count, rows, size, ...)``."""
        examples, steps, heads = self.shape
        rest, nothing = a.shape[3:], [(0, 0)] * (a.ndim - 3)
        a = jnp.swapaxes(a, 1, 2).reshape(examples * heads, steps, *rest)
        more = self.groups * self.rows - examples * heads, self.count * self.size - steps
        a = jnp.pad(a, [(0, more[0]), (0, more[1]), *nothing])
        return jnp.swapaxes(a.reshape(self.groups, self.rows, self.count, self.size, *rest), 1, 2)

    def join(self, a: Array) -> Array:
        """The inverse of ``cut``."""
        examples, steps, heads = self.shape
        rest = a.shape[4:]
        a = jnp.swapaxes(a, 1, 2).reshape(self.groups * self.rows, self.count * self.size, *rest)
        return jnp.swapaxes(a[: examples * heads, :steps].reshape(examples, heads, steps, *rest), 1, 2)

    def existing(self, mask: Array | None) -> Array | None:
        """The keys that exist, cut, or None if all do."""
        if mask is None and self.count * self.size == self.shape[1]:
            return None
        mask = jnp.ones(self.shape[:2], bool) if mask is None else mask
        return self.cut(jnp.broadcast_to(mask[:, :, None], self.shape))

    def scores(self, q: Array, k: Array, i: Array, j: Array, exists: Array | None) -> Array:
        """``s (r, q, k)`` of block ``i`` of the queries and block ``j`` of the keys; −∞ for what is not seen."""
        s = product("rqd,rkd->rqk", q, k) / math.sqrt(q.shape[-1])
        if self.causal:
            within = jnp.arange(self.size)
            s = jnp.where((i * self.size + within)[:, None] >= j * self.size + within, s, -jnp.inf)
        return s if exists is None else jnp.where(exists[:, None, :], s, -jnp.inf)

    def unless_later(self, i: Array, j: Array, update: Any, state: Any) -> Any:
        """``update(state)``, or ``state`` as it is where no query of block ``i`` sees a key of block ``j``."""
        return jax.lax.cond(j <= i, update, lambda state: state, state) if self.causal else update(state)


def evenly(number: int, largest: int) -> int:
    """The size of parts of ``number``, each at most ``largest``: as few parts as possible, all alike."""
    return max(1, math.ceil(number / max(1, math.ceil(number / largest))))


def product(letters: str, a: Array, b: Array) -> Array:
    """``einsum`` summed in at least float32."""
    return jnp.einsum(letters, a, b, preferred_element_type=checks.at_least_float32(a))


@partial(jax.jit, static_argnames="blocks")  # outside of jit too it is compiled once, and not at every call
def attention(q: Array, k: Array, v: Array, mask: Array | None, blocks: Blocks) -> tuple[Array, Array]:
    """``o (N, T, heads, d)`` and, cut in blocks, ``ln Σ_j exp(s_ij)``; +∞ for a query that sees no key.

    What is inside ``jax.checkpoint`` is computed again on the way back instead of being kept. The largest score is a
    constant to autodiff: the result does not depend on what is subtracted.
    """
    dtype = checks.at_least_float32(q)

    def of_rows(group: Any) -> tuple[Array, Array]:
        qs, *keys = group
        return jax.lax.map(partial(of_queries, (*keys, blocks.numbers)), (qs, blocks.numbers))

    @partial(jax.checkpoint, prevent_cse=False)
    def of_queries(keys: Any, block: tuple[Array, Array]) -> tuple[Array, Array]:
        q, i = block

        @partial(jax.checkpoint, prevent_cse=False)
        def see(state: tuple[Array, Array, Array], block: Any) -> Any:
            k, v, exists, j = block

            def update(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
                o, z, m = state
                s = blocks.scores(q, k, i, j, exists)
                m, before = jax.lax.stop_gradient(jnp.maximum(m, s.max(-1))), m
                kept, p = jnp.exp(before - m), jnp.exp(s - m[..., None])
                o = kept[..., None] * o + product("rqk,rkd->rqd", p.astype(v.dtype), v)
                return o, kept * z + p.sum(-1), m

            return blocks.unless_later(i, j, update, state), None

        lowest = jnp.full(q.shape[:-1], jnp.finfo(dtype).min, dtype)  # −∞ less −∞ would be NaN
        *start, _ = varying_alike(jnp.zeros(q.shape, dtype), jnp.zeros_like(lowest), lowest, q)
        (o, z, m), _ = jax.lax.scan(see, tuple(start), keys)
        nothing_seen = z == 0
        z = jnp.where(nothing_seen, 1, z)
        return (o / z[..., None]).astype(q.dtype), jnp.where(nothing_seen, jnp.inf, m + jnp.log(z))

    o, log_sums = jax.lax.map(of_rows, (*map(blocks.cut, (q, k, v)), blocks.existing(mask)))
    return blocks.join(o), log_sums
