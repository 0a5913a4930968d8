"""Convolution as a sliding dot product, its two transposes, and its forms as products of matrices.

``convolve`` is the plain function. It is computed by ``convolution``, whose derivatives are ``input_gradient`` and
``kernel_gradient``; the derivatives of each of these three operations are again among the three. ``im2col``, ``col2im``
and ``toeplitz`` express them as products of matrices.
"""

from fnnet.convolution.convolve import convolve
from fnnet.convolution.geometry import Geometry, geometry_of
from fnnet.convolution.im2col import col2im, im2col
from fnnet.convolution.operators import convolution, input_gradient, kernel_gradient
from fnnet.convolution.toeplitz import circular_singular_values, singular_values, toeplitz

__all__ = [
    "Geometry",
    "circular_singular_values",
    "col2im",
    "convolution",
    "convolve",
    "geometry_of",
    "im2col",
    "input_gradient",
    "kernel_gradient",
    "singular_values",
    "toeplitz",
]
