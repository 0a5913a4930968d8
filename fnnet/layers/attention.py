"""Self-attention."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.attention import Blocks, attention
from fnnet.configuration import configuration
from fnnet.initializers import glorot_uniform, zeros
from fnnet.layers.positions import rotate
from fnnet.layers.recurrent import check_mask, check_sequence
from fnnet.types import Array, Initializer, Params, Shaped


@configuration
class MultiHeadAttention:
    """Every step of a sequence as a mean over the steps, weighted by how well its query fits their keys.

    For each head ``q = x w_q + b_q``, ``k = x w_k``, ``v = x w_v + b_v``, ``o_i = Σ_j softmax_j(q_i · k_j / √d) v_j``;
    then ``y = o w_o + b_o`` of all heads side by side (Vaswani et al. 2017, section 3.2). Keys have no bias: without
    ``rotary`` it would add the same to all scores of a query, which the softmax takes away. ``use_bias=False`` leaves
    out the others too.

    Shapes: ``x (N, T, D)``; ``w_q``, ``w_k`` and ``w_v (D, heads · d)``, ``w_o (heads · d, D)``; ``y (N, T, D)``. ``d``
    is ``head_features``, or ``D / heads`` where that is not given. Weights start Glorot-uniform, biases at zero.

    With ``causal`` a step sees none that is later. With ``rotary`` queries and keys are rotated by their position, see
    ``rotate``, and scores depend on the distance of the steps. Computed in blocks of at most ``block`` steps, so that
    memory is linear in ``T``, see ``fnnet.attention``. Cost: ``8 N T D heads d`` operations for the projections and
    ``4 N T² heads d`` for the attention (about half of it with ``causal``) forward, twice to two and a half times that
    back.
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
        check_sequence(repr(self), x)
        checks.floating(repr(self), "x", x)
        features, dtype = x.shape[-1], checks.dtype_of(x)
        width = self.heads * self.features_of_head(features)
        keys = jax.random.split(key, 7)
        shapes = {
            "w_q": (features, width),
            "w_k": (features, width),
            "w_v": (features, width),
            "w_o": (width, features),
        }
        params = {name: self.w_init(keys[i], shape, dtype) for i, (name, shape) in enumerate(shapes.items())}
        if self.use_bias:
            widths = {"b_q": width, "b_v": width, "b_o": features}
            params |= {name: self.b_init(keys[4 + i], (n,), dtype) for i, (name, n) in enumerate(widths.items())}
        return params

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return self.attend(params, x)

    def attend(self, params: Params, x: Any, mask: Array | None = None) -> Array:
        """``apply`` to sequences of different lengths: ``mask (N, T)``, boolean, is True at the steps that exist.

        What stands in the others changes nothing, their ``y`` is 0.
        """
        x, mask = self.checked(params, x, mask)
        q, k, v = self.project(params, x)
        o, _ = attention(q, k, v, mask, self.blocks(q))
        return self.output(params, o, mask)

    def checked(self, params: Params, x: Any, mask: Any) -> tuple[Array, Array | None]:
        """``x``, 0 at the steps that do not exist (NaN times 0 would stay NaN), and the mask, as arrays."""
        x = jnp.asarray(x)
        check_sequence(repr(self), x)
        mask = check_mask(repr(self), x, mask)
        expected = (x.shape[-1], self.heads * self.features_of_head(x.shape[-1]))
        checks.require(
            params["w_q"].shape == expected,
            f"{self!r}: x has shape {x.shape} but w_q has shape {params['w_q'].shape}; expected {expected}: reshape x, "
            f"or init the parameters with inputs of this shape",
        )
        checks.same_dtype(repr(self), "x", x, "w_q", params["w_q"])
        return (x if mask is None else jnp.where(mask[..., None], x, 0)), mask

    def project(self, params: Params, x: Array) -> tuple[Array, Array, Array]:
        """Queries, keys and values, ``(N, T, heads, d)`` each."""
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
        """The heads' features on one axis, ``(N, T, heads · d)``."""
        return o.reshape(*o.shape[:2], o.shape[2] * o.shape[3])

    def blocks(self, q: Array) -> Blocks:
        return Blocks.of(q.shape, self.block, self.causal)

    def features_of_head(self, features: int) -> int:
        if self.head_features is not None:
            return self.head_features
        checks.require(
            features % self.heads == 0 and features > 0,
            f"{self!r}: x has {features} features, which {self.heads} heads do not divide; give head_features, or as "
            f"many features as a multiple of the heads",
        )
        d = features // self.heads
        checks.require(
            not self.rotary or d % 2 == 0,
            f"{self!r}: x has {features} features, {d} for each head; expected an even number for rotary=True, which "
            f"rotates pairs of features",
        )
        return d
