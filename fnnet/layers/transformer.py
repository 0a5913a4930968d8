"""The transformer's block, built of other layers."""

from __future__ import annotations

from fnnet import checks
from fnnet.activations import gelu
from fnnet.layers.attention import MultiHeadAttention
from fnnet.layers.combinators import Residual, Sequential, sequential
from fnnet.layers.dense import Dense
from fnnet.layers.dropout import Dropout
from fnnet.layers.normalization import LayerNorm
from fnnet.types import ActivationFunction, Layer


def transformer_block(
    heads: int,
    features: int,
    *,
    hidden: int | None = None,
    causal: bool = False,
    rotary: bool = False,
    dropout: float = 0.0,
    activation: ActivationFunction = gelu,
) -> Sequential:
    """``h = x + attention(norm(x))``, then ``y = h + dense(norm(h))``: each half reads a normalized copy and adds to x.

    Of inputs with ``features`` features, ``x (N, T, features)``. ``dense`` is two layers with ``activation`` between,
    ``hidden`` wide, ``4 · features`` unless given. ``dropout`` is the rate at which entries of what each half adds are
    dropped in training. The gradient of a deep stack of such blocks is well scaled at the start, without a warm-up of
    the learning rate. Before what reads the last block's output stands one more ``LayerNorm``. Blocks, as ``apply`` of
    every layer, take no padding mask: ``MultiHeadAttention.attend`` alone does. Source: Xiong et al. 2020, "On layer
    normalization in the transformer architecture", figure 1 (b).
    """
    checks.positive_integer("transformer_block", "heads", heads)
    checks.positive_integer("transformer_block", "features", features)
    checks.require(
        features % heads == 0,
        f"transformer_block: features is {features}, which {heads} heads do not divide; expected a multiple of heads",
    )
    attention = MultiHeadAttention(heads, features // heads, causal, rotary)
    noise: tuple[Layer, ...] = (Dropout(dropout),) if dropout else ()
    dense = Dense(4 * features if hidden is None else hidden), activation, Dense(features)
    return sequential(
        Residual(sequential(LayerNorm(), attention, *noise)), Residual(sequential(LayerNorm(), *dense, *noise))
    )
