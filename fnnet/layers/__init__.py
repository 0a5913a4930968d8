"""Layers: frozen, hashable descriptions with two pure methods, ``init`` and ``apply``. They never hold an array."""

from fnnet.layers.activation import Activation
from fnnet.layers.combinators import Sequential, sequential
from fnnet.layers.convolution import Conv, ConvTranspose
from fnnet.layers.dense import Dense
from fnnet.layers.flatten import Flatten
from fnnet.layers.noise import Dropout, GaussianNoise

__all__ = [
    "Activation",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "Flatten",
    "GaussianNoise",
    "Sequential",
    "sequential",
]
