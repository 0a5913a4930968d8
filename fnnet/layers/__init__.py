"""Layers: frozen, hashable descriptions with two pure methods, ``init`` and ``apply``. They never hold an array."""

from fnnet.layers.activation import Activation
from fnnet.layers.combinators import Sequential, sequential
from fnnet.layers.dense import Dense
from fnnet.layers.dropout import Dropout
from fnnet.layers.flatten import Flatten

__all__ = ["Activation", "Dense", "Dropout", "Flatten", "Sequential", "sequential"]
