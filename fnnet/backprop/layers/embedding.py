"""The rule of ``Embedding``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.backprop.rule import RULES, Rule
from fnnet.layers.embedding import Embedding
from fnnet.types import Array, Params


def embedding_forward(
    layer: Embedding, params: Params, x: Array, *, key: Array | None, train: bool
) -> tuple[Array, Array]:
    return layer.apply(params, x), layer.tokens(x)


def embedding_backward(layer: Embedding, params: Params, tokens: Array, dy: Array) -> tuple[Params, Any]:
    """y_n = table[x_n]  ⇒  dtable[e] = Σ_n [x_n = e] dy_n. Tokens are no real numbers: their gradient is of the dtype
    that has no values, ``float0``, as ``jax.vjp`` gives it.
    """
    dtable = jnp.zeros_like(params["table"]).at[tokens].add(dy, mode="drop", wrap_negative_indices=False)
    return {"table": dtable}, np.zeros(tokens.shape, jax.dtypes.float0)


RULES[Embedding] = Rule(embedding_forward, embedding_backward)
