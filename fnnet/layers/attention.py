"""Attention: each step of a sequence as a mean over the steps, weighted by how well its query fits their keys.

    o_i = Σ_j p_ij v_j,   p_ij = exp(s_ij) / Σ_k exp(s_ik),   s_ij = q_i · k_j / √d

(Vaswani et al. 2017, "Attention is all you need", eq. 1). It is computed in blocks of queries and keys, so that memory
grows with the number of steps and not with its square. No more than one block of scores exists at a time. The blocks of
keys are read one after the other, and the sums so far are kept relative to the largest score so far, ``m`` (the "online
softmax" of Milakov and Gimelshein 2018; Rabe and Staats 2021, "Self-attention does not need O(n²) memory"; Dao et al.
2022, "FlashAttention", algorithm 1):

    m' = max(m, max_j s_j),   z' = e^{m − m'} z + Σ_j e^{s_j − m'},   o' = e^{m − m'} o + Σ_j e^{s_j − m'} v_j

At the end ``o / z`` is the result and ``m + ln z`` is the logarithm of the softmax's denominator.

Letters: ``r`` rows, that is, pairs of an example and a head; ``q`` and ``k`` steps of a block of queries and of keys;
``d`` features of a head.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.initializers import glorot_uniform, zeros
from fnnet.layers.positions import rotate
from fnnet.layers.recurrent import check_mask, check_sequence
from fnnet.shards import varying_alike
from fnnet.types import Array, Initializer, Params, Shape, Shaped

BLOCK = 512  # steps
SCORES = 2**20  # of one block of scores, 4 MiB in float32, as measured on CPU; larger blocks have fewer rows


def dot_product_attention(
    q: Any, k: Any, v: Any, *, mask: Array | None = None, causal: bool = False, block: int | None = None
) -> Array:
    """Compute ``o_i = Σ_j softmax_j(q_i · k_j / √d) v_j`` over the keys that query ``i`` sees.

    Shapes: ``q``, ``k``, ``v`` and the result are ``(N, T, heads, d)``. ``mask (N, T)``, boolean, is True at the keys
    that exist; the other keys and their values change nothing, whatever they hold. With ``causal`` a query sees no key
    later than itself. A query that sees no key gives 0. ``block`` is the largest number of steps in a block; it changes
    time, memory and rounding, and nothing else.

    Softmax and sums are taken in at least float32. Memory is linear in ``T``, also for the gradient by autodiff, which
    computes the blocks again in its backward pass. Derivatives of every order exist, forward and reverse.
    """
    q, k, v = jnp.asarray(q), jnp.asarray(k), jnp.asarray(v)
    place = "dot_product_attention"
    checks.require(
        q.ndim == 4 and q.shape == k.shape == v.shape and 0 not in q.shape,
        f"{place}: q, k and v have shapes {q.shape}, {k.shape} and {v.shape}; expected all alike, "
        f"(N, T, heads, features), none of them 0",
    )
    checks.floating(place, "q", q)
    checks.same_dtype(place, "k", k, "q", q)
    checks.same_dtype(place, "v", v, "q", q)
    if block is not None:
        checks.positive_integer(place, "block", block)
    mask = check_mask(place, q, mask)
    if mask is not None:
        k, v = (jnp.where(mask[..., None, None], a, 0) for a in (k, v))  # NaN times 0 would stay NaN
    return blockwise_attention(q, k, v, mask, AttentionBlocks.of(q.shape, block, causal))[0]


@configuration
class MultiHeadAttention:
    """Self-attention with several heads, ``y = o w_o + b_o`` of all heads side by side.

    Each head computes ``q = x w_q + b_q``, ``k = x w_k``, ``v = x w_v + b_v`` and
    ``o_i = Σ_j softmax_j(q_i · k_j / √d) v_j`` (Vaswani et al. 2017, section 3.2). Keys have no bias: without
    ``rotary`` it would add the same number to all scores of a query, which the softmax takes away. ``use_bias=False``
    leaves out the other biases too.

    Shapes: ``x (N, T, D)``; ``w_q``, ``w_k`` and ``w_v (D, heads · d)``, ``w_o (heads · d, D)``; ``y (N, T, D)``. ``d``
    is ``head_features``, by default ``D / heads``. Weights start Glorot-uniform, biases at zero.

    With ``causal`` a step sees no later step. With ``rotary`` queries and keys are rotated by their position, see
    ``rotate``, and scores depend on the distance between steps. The computation runs in blocks of at most ``block``
    steps, so that memory is linear in ``T``. Cost: ``8 N T D heads d`` operations for the projections and
    ``4 N T² heads d`` for the attention (about half of it with ``causal``) forward, 2 to 2.5 times that backward.
    """

    heads: int
    head_features: int | None = None
    causal: bool = False
    rotary: bool = False
    use_bias: bool = True
    block: int | None = None
    w_init: Initializer = glorot_uniform
    b_init: Initializer = zeros

    def __post_init__(self) -> None:
        checks.positive_integer("MultiHeadAttention", "heads", self.heads)
        for name in ("head_features", "block"):
            if getattr(self, name) is not None:
                checks.positive_integer("MultiHeadAttention", name, getattr(self, name))
        checks.require(
            not self.rotary or self.head_features is None or self.head_features % 2 == 0,
            f"MultiHeadAttention: head_features is {self.head_features}; expected an even number for rotary=True, "
            f"which rotates pairs of features",
        )

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        check_sequence(repr(self), x)
        checks.floating(repr(self), "x", x)
        (weights, biases), keys, dtype = self.shapes(x), jax.random.split(key, 7), checks.dtype_of(x)
        params = {name: self.w_init(keys[i], shape, dtype) for i, (name, shape) in enumerate(weights.items())}
        return params | {name: self.b_init(keys[4 + i], shape, dtype) for i, (name, shape) in enumerate(biases.items())}

    def shapes(self, x: Shaped) -> tuple[dict[str, Shape], dict[str, Shape]]:
        """Return the shapes of the weights and of the biases, for inputs like ``x``."""
        features = x.shape[-1]
        width = self.heads * self.features_of_head(features)
        weights: dict[str, Shape] = {"w_o": (width, features)}
        weights = {f"w_{name}": (features, width) for name in "qkv"} | weights
        return weights, {"b_q": (width,), "b_v": (width,), "b_o": (features,)} if self.use_bias else {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return self.attend(params, x)

    def attend(self, params: Params, x: Any, mask: Array | None = None) -> Array:
        """Apply the layer to sequences of different lengths.

        ``mask (N, T)``, boolean, is True at the steps that exist. The other steps change nothing, and their ``y`` is 0.
        """
        x, mask = self.checked(params, x, mask)
        q, k, v = self.project(params, x)
        o, _ = blockwise_attention(q, k, v, mask, self.blocks(q))
        return self.output(params, o, mask)

    def checked(self, params: Params, x: Any, mask: Any) -> tuple[Array, Array | None]:
        """Return ``x`` and the mask as arrays, ``x`` with 0 at steps that do not exist (NaN times 0 would stay NaN)."""
        x = checks.array(repr(self), "x", x)
        check_sequence(repr(self), x)
        mask = check_mask(repr(self), x, mask)
        checks.floating(repr(self), "x", x)
        weights, biases = self.shapes(x)
        checks.parameters(repr(self), params, x, **weights, **biases)
        return (x if mask is None else jnp.where(mask[..., None], x, 0)), mask

    def project(self, params: Params, x: Array) -> tuple[Array, Array, Array]:
        """Return queries, keys and values, each ``(N, T, heads, d)``."""
        flat = (x @ params[f"w_{name}"] for name in "qkv")
        q, k, v = (a.reshape(*x.shape[:2], self.heads, a.shape[-1] // self.heads) for a in flat)
        if self.use_bias:
            q, v = (a + params[f"b_{name}"].reshape(self.heads, -1) for name, a in (("q", q), ("v", v)))
        return (rotate(q), rotate(k), v) if self.rotary else (q, k, v)

    def output(self, params: Params, o: Array, mask: Array | None) -> Array:
        y = self.side_by_side(o) @ params["w_o"]
        y = y + params["b_o"] if self.use_bias else y
        return y if mask is None else jnp.where(mask[..., None], y, 0)

    def side_by_side(self, o: Array) -> Array:
        """Return the features of all heads on one axis, ``(N, T, heads · d)``."""
        return o.reshape(*o.shape[:2], o.shape[2] * o.shape[3])

    def blocks(self, q: Array) -> AttentionBlocks:
        return AttentionBlocks.of(q.shape, self.block, self.causal)

    def features_of_head(self, features: int) -> int:
        if self.head_features is not None:
            return self.head_features
        checks.require(
            features % self.heads == 0 and features > 0,
            f"{self!r}: x has {features} features, which {self.heads} heads do not divide; give head_features, or "
            f"a multiple of {self.heads} features",
        )
        d = features // self.heads
        checks.require(
            not self.rotary or d % 2 == 0,
            f"{self!r}: x has {features} features, {d} for each head; expected an even number for rotary=True, which "
            f"rotates pairs of features",
        )
        return d


@configuration
class AttentionBlocks:
    """How ``(N, T, heads, ...)`` is cut into ``groups`` of ``rows`` and ``count`` blocks of ``size`` steps.

    The last group is filled up with rows of zeros, the last block with steps that do not exist.
    """

    shape: tuple[int, int, int]
    rows: int
    size: int
    causal: bool

    @classmethod
    def of(cls, shape: Shape, largest: int | None, causal: bool) -> AttentionBlocks:
        """Return as few blocks as possible, of equal size: two of 300 steps for 600, not one of 512 and one of 88."""
        examples, steps, heads = shape[:3]
        size = (largest or BLOCK) if checks.is_symbolic(steps) else evenly(steps, largest or BLOCK)
        rows = max(1, SCORES // size**2)
        if checks.is_symbolic(examples):  # rows that fill the groups, however many examples there are
            rows = next(divisor for divisor in range(min(heads, rows), 0, -1) if heads % divisor == 0)
        else:
            rows = evenly(examples * heads, rows)
        return cls((examples, steps, heads), rows, size, causal)

    @property
    def groups(self) -> int:
        return -(-self.shape[0] * self.shape[2] // self.rows)

    @property
    def count(self) -> int:
        return -(-self.shape[1] // self.size)

    @property
    def numbers(self) -> Array:
        return jnp.arange(self.count)

    def cut(self, a: Array) -> Array:
        """Reshape ``(N, T, heads, ...)`` to ``(groups, count, rows, size, ...)``."""
        examples, steps, heads = self.shape
        rest, nothing = a.shape[3:], [(0, 0)] * (a.ndim - 3)
        a = jnp.swapaxes(a, 1, 2).reshape(examples * heads, steps, *rest)
        more = self.groups * self.rows - examples * heads, self.count * self.size - steps
        a = jnp.pad(a, [(0, more[0]), (0, more[1]), *nothing])
        return jnp.swapaxes(a.reshape(self.groups, self.rows, self.count, self.size, *rest), 1, 2)

    def join(self, a: Array) -> Array:
        """Undo ``cut``."""
        examples, steps, heads = self.shape
        rest = a.shape[4:]
        a = jnp.swapaxes(a, 1, 2).reshape(self.groups * self.rows, self.count * self.size, *rest)
        return jnp.swapaxes(a[: examples * heads, :steps].reshape(examples, heads, steps, *rest), 1, 2)

    def existing(self, mask: Array | None) -> Array | None:
        """Return the mask of the keys that exist, cut, or None if all of them do."""
        if mask is None and self.count * self.size == self.shape[1]:
            return None
        mask = jnp.ones(self.shape[:2], bool) if mask is None else mask
        return self.cut(jnp.broadcast_to(mask[:, :, None], self.shape))

    def scores(self, q: Array, k: Array, i: Array, j: Array, exists: Array | None) -> Array:
        """Return ``s (r, q, k) = q · k / √d`` for block ``i`` of queries and ``j`` of keys; −∞ for unseen keys."""
        s = product("rqd,rkd->rqk", q, k) / math.sqrt(q.shape[-1])
        if self.causal:
            within = jnp.arange(self.size)
            s = jnp.where((i * self.size + within)[:, None] >= j * self.size + within, s, -jnp.inf)
        return s if exists is None else jnp.where(exists[:, None, :], s, -jnp.inf)

    def unless_later(self, i: Array, j: Array, update: Any, state: Any) -> Any:
        """Return ``update(state)``, or ``state`` itself if no query of block ``i`` sees a key of block ``j``."""
        return jax.lax.cond(j <= i, update, lambda state: state, state) if self.causal else update(state)


def evenly(number: int, largest: int) -> int:
    """Return the size of the fewest parts of equal size, at most ``largest``, that ``number`` can be cut into."""
    return max(1, math.ceil(number / max(1, math.ceil(number / largest))))


def product(letters: str, a: Array, b: Array) -> Array:
    """Compute ``einsum`` of two arrays, with sums in at least float32."""
    return jnp.einsum(letters, a, b, preferred_element_type=checks.at_least_float32(a))


@partial(jax.jit, static_argnames="blocks")  # compiled once, also where the caller is not compiled
def blockwise_attention(
    q: Array, k: Array, v: Array, mask: Array | None, blocks: AttentionBlocks
) -> tuple[Array, Array]:
    """Return ``o (N, T, heads, d)`` and, cut in blocks, ``ln Σ_j exp(s_ij)``; +∞ for a query that sees no key.

    What is inside ``jax.checkpoint`` is not kept but computed again in the backward pass. The largest score is a
    constant to autodiff, because the result does not depend on what is subtracted.
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
