"""Convolution: the sliding dot product, its two transposes, and the matrices that it is."""

from fnnet.convolution.convolve import convolve
from fnnet.convolution.geometry import Geometry
from fnnet.convolution.im2col import col2im, im2col
from fnnet.convolution.operators import convolution, input_gradient, kernel_gradient

__all__ = ["Geometry", "col2im", "convolution", "convolve", "im2col", "input_gradient", "kernel_gradient"]
