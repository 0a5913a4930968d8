"""The block of a transformer, made of other layers."""

from __future__ import annotations

from fnnet import checks
from fnnet.activations import gelu
from fnnet.layers.attention import MultiHeadAttention
from fnnet.layers.combinators import Residual, Sequential, sequential
from fnnet.layers.dense import Dense
from fnnet.layers.dropout import Dropout
from fnnet.layers.normalization import LayerNorm
from fnnet.types import ActivationFunction, Layer, Scalar


def transformer_block(
    heads: int,
    features: int,
    *,
    hidden: int | None = None,
    causal: bool = False,
    rotary: bool = False,
    dropout: Scalar = 0.0,
    activation: ActivationFunction = gelu,
) -> Sequential:
    """Return a pre-norm block of a transformer: ``h = x + attention(norm(x))``, then ``y = h + dense(norm(h))``.

    Shapes: ``x`` and ``y (N, T, features)``. ``dense`` is two layers with ``activation`` between them; the first has
    ``hidden`` features, by default ``4 · features``. ``dropout`` is the rate at which entries of both summands are
    dropped in training. The gradient of a deep stack of such blocks is well scaled from the start, without a warm-up of
    the learning rate. One more ``LayerNorm`` belongs after the last block. Blocks take no padding mask, because
    ``apply`` of a layer takes none; ``MultiHeadAttention.attend`` does. Source: Xiong et al. 2020, "On layer
    normalization in the transformer architecture", figure 1 (b).
    """
    checks.positive_integer("transformer_block", "heads", heads)
    checks.positive_integer("transformer_block", "features", features)
    checks.require(
        features % heads == 0,
        f"transformer_block: features is {features}, which {heads} heads do not divide; expected a multiple of heads",
    )
    attention = MultiHeadAttention(heads, features // heads, causal, rotary)
    noise: tuple[Layer, ...] = () if checks.known(dropout) == 0 else (Dropout(dropout),)
    dense = Dense(4 * features if hidden is None else hidden), activation, Dense(features)
    return sequential(
        Residual(sequential(LayerNorm(), attention, *noise)), Residual(sequential(LayerNorm(), *dense, *noise))
    )
