"""Layers: frozen, hashable descriptions with two pure methods, ``init`` and ``apply``. They never hold an array."""

from fnnet.layers.activation import Activation
from fnnet.layers.combinators import Sequential, sequential
from fnnet.layers.dense import Dense
from fnnet.layers.flatten import Flatten
from fnnet.layers.noise import Dropout, GaussianNoise
from fnnet.layers.recurrent import Bidirectional, Recurrent

__all__ = [
    "Activation",
    "Bidirectional",
    "Dense",
    "Dropout",
    "Flatten",
    "GaussianNoise",
    "Recurrent",
    "Sequential",
    "sequential",
]
