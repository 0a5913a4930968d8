"""The rule of ``Embedding``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.backprop.rule import RULES, Rule
from fnnet.layers.embedding import Embedding
from fnnet.types import Array, Params


def embedding_forward(
    layer: Embedding, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, Array]:
    return layer.apply(params, x), layer.tokens(x)


def embedding_backward(layer: Embedding, params: Params, tokens: Array, dy: Array) -> tuple[Params, Any]:
    """y_n = table[x_n]  ⇒  dtable[e] = Σ_n [x_n = e] dy_n.

    The sum is in at least float32, because 256 + 1 is 256 in bfloat16. Tokens are not real numbers: their gradient has
    the dtype without values, ``float0``, as in ``jax.vjp``.
    """
    table = params["table"]
    zeros = jnp.zeros(table.shape, checks.at_least_float32(table))
    dtable = zeros.at[tokens].add(dy.astype(zeros.dtype), mode="drop", wrap_negative_indices=False)
    return {"table": dtable.astype(table.dtype)}, np.zeros(tokens.shape, jax.dtypes.float0)


RULES[Embedding] = Rule(embedding_forward, embedding_backward)
