"""Layers: frozen, hashable configurations with two pure methods, ``init`` and ``apply``. A layer holds no array."""

from fnnet.layers.activation import Activation
from fnnet.layers.affine import Affine
from fnnet.layers.attention import MultiHeadAttention, dot_product_attention
from fnnet.layers.combinators import Residual, Sequential, sequential
from fnnet.layers.convolution import Conv, ConvTranspose
from fnnet.layers.dense import Dense
from fnnet.layers.dropout import Dropout
from fnnet.layers.embedding import Embedding
from fnnet.layers.flatten import Flatten
from fnnet.layers.folding import fold_batch_norm
from fnnet.layers.nesting import children, nested
from fnnet.layers.noise import GaussianNoise
from fnnet.layers.normalization import BatchNorm, GroupNorm, LayerNorm
from fnnet.layers.pooling import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from fnnet.layers.positions import LearnedPositions, SinusoidalPositions
from fnnet.layers.precision import LowPrecision
from fnnet.layers.recurrent import Bidirectional, Recurrent
from fnnet.layers.segments import Rematerialized
from fnnet.layers.transformer import transformer_block
from fnnet.layers.truncated import Truncated
from fnnet.layers.upsampling import Upsample

__all__ = [
    "Activation",
    "Affine",
    "AvgPool",
    "BatchNorm",
    "Bidirectional",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GaussianNoise",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "LayerNorm",
    "LearnedPositions",
    "LowPrecision",
    "MaxPool",
    "MultiHeadAttention",
    "Recurrent",
    "Rematerialized",
    "Residual",
    "Sequential",
    "SinusoidalPositions",
    "Truncated",
    "Upsample",
    "children",
    "dot_product_attention",
    "fold_batch_norm",
    "nested",
    "sequential",
    "transformer_block",
]
