"""Layers: frozen, hashable descriptions with two pure methods, ``init`` and ``apply``. They never hold an array."""

from fnnet.layers.activation import Activation
from fnnet.layers.affine import Affine
from fnnet.layers.combinators import Residual, Sequential, sequential
from fnnet.layers.convolution import Conv, ConvTranspose
from fnnet.layers.dense import Dense
from fnnet.layers.flatten import Flatten
from fnnet.layers.folding import fold_batch_norm
from fnnet.layers.noise import Dropout, GaussianNoise
from fnnet.layers.normalization import BatchNorm, GroupNorm, LayerNorm
from fnnet.layers.pooling import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool
from fnnet.layers.precision import LowPrecision
from fnnet.layers.recurrent import Bidirectional, Recurrent
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
    "Flatten",
    "GaussianNoise",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "LayerNorm",
    "LowPrecision",
    "MaxPool",
    "Recurrent",
    "Residual",
    "Sequential",
    "Upsample",
    "fold_batch_norm",
    "sequential",
]
