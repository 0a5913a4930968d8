"""The rules of the layers, in files with the names of those in ``fnnet.layers``. Importing them fills ``RULES``."""

from fnnet.backprop.layers import (  # noqa: F401
    activation,
    affine,
    attention,
    combinators,
    convolution,
    dense,
    dropout,
    embedding,
    flatten,
    noise,
    normalization,
    pooling,
    positions,
    precision,
    recurrent,
    scans,
    segments,
    truncated,
    upsampling,
)
