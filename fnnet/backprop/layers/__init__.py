"""The rules of the layers, one file for each file of ``fnnet.layers``. Importing this package fills ``RULES``."""

from fnnet.backprop.layers import (
    activation,
    affine,
    attention,
    combinators,
    convolution,
    dense,
    embedding,
    flatten,
    noise,
    normalization,
    pooling,
    positions,
    recurrent,
    scans,
    segments,
    truncated,
    upsampling,
)
from fnnet.backprop.rule import RULES

__all__ = [
    "RULES",
    "activation",
    "affine",
    "attention",
    "combinators",
    "convolution",
    "dense",
    "embedding",
    "flatten",
    "noise",
    "normalization",
    "pooling",
    "positions",
    "recurrent",
    "scans",
    "segments",
    "truncated",
    "upsampling",
]
