"""The rules of the layers, one file for each file of ``fnnet.layers``. Importing this package fills ``RULES``."""

from fnnet.backprop.layers import (
    activation,
    affine,
    combinators,
    convolution,
    dense,
    flatten,
    noise,
    normalization,
    pooling,
    precision,
    recurrent,
    upsampling,
)
from fnnet.backprop.rule import RULES

__all__ = [
    "RULES",
    "activation",
    "affine",
    "combinators",
    "convolution",
    "dense",
    "flatten",
    "noise",
    "normalization",
    "pooling",
    "precision",
    "recurrent",
    "upsampling",
]
