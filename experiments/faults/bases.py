"""The healthy runs that faults are put into: one for each data set and kind of network."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import fnnet
from experiments.faults import sets
from experiments.faults.sets import Sets
from fnnet import Cost, Dense, losses, optimizers, relu, sequential
from fnnet.diagnosis import Setup
from fnnet.types import Hyperparameter, Layer, Loss, Penalty


@dataclass(frozen=True)
class Base:
    """A healthy run. ``family`` is the kind of network, and ``held_out`` says whether thresholds were set without it.

    ``optimizer`` is a function of the learning rate, and ``rate`` the best one that was found for the number of epochs.
    """

    name: str
    sets: Callable[[], Sets]
    model: Layer
    loss: Loss
    optimizer: Callable[[Hyperparameter], Any]
    rate: float
    family: str = "dense"
    penalty: Penalty | None = None
    batch_size: int = 32
    epochs: int = 15
    held_out: bool = False
    needs_files: bool = False

    def setup(self, seed: int = 0) -> Setup:
        """Return the run with the parameters and the order of the examples of this seed."""
        train, validation = self.sets()
        start, order = jax.random.split(jax.random.key(seed))
        return Setup(
            Cost(self.model, self.loss, self.penalty),
            self.optimizer(self.rate),
            self.model.init(start, jnp.asarray(train[0][:2])),
            train,
            order,
            validation,
            self.batch_size,
            self.epochs,
        )


def mlp(*widths: int, activation: Any = relu) -> fnnet.Sequential:
    """Return a network of dense layers with the activation between them."""
    hidden = [layer for width in widths[:-1] for layer in (Dense(width), activation)]
    return sequential(*hidden, Dense(widths[-1]))


def conv(*between: Any) -> fnnet.Sequential:
    """Return a small convolutional network with these layers before each activation."""
    blocks = [
        layer
        for features in (8, 16)
        for layer in (fnnet.Conv(features, 3, padding="SAME"), *between, relu, fnnet.MaxPool(2))
    ]
    return sequential(*blocks, fnnet.Flatten(), Dense(10))


def residual_conv() -> fnnet.Sequential:
    block = sequential(fnnet.GroupNorm(4), relu, fnnet.Conv(8, 3, padding="SAME"))
    return sequential(
        fnnet.Conv(8, 3, padding="SAME"),
        fnnet.Residual(block),
        fnnet.MaxPool(2),
        fnnet.Residual(block),
        fnnet.GlobalAvgPool(),
        Dense(10),
    )


def characters_lstm() -> fnnet.Sequential:
    return sequential(fnnet.Embedding(28, 16), fnnet.Recurrent(fnnet.LSTMCell(32)), Dense(28))


def characters_attention(causal: bool = True) -> fnnet.Sequential:
    block = fnnet.transformer_block(2, 16, hidden=32, causal=causal)
    return sequential(fnnet.Embedding(28, 16), fnnet.LearnedPositions(sets.LENGTH), block, fnnet.LayerNorm(), Dense(28))


def recurrent(cell: Any, outputs: int) -> fnnet.Sequential:
    return sequential(fnnet.Recurrent(cell, return_sequences=False), Dense(outputs))


def normalized(*widths: int) -> fnnet.Sequential:
    """Return a network of dense layers with a ``LayerNorm`` before each activation."""
    hidden = [layer for width in widths[:-1] for layer in (Dense(width), fnnet.LayerNorm(), relu)]
    return sequential(*hidden, Dense(widths[-1]))


momentum = partial(optimizers.momentum, averaged=False)
CLASSES, YES_NO, REAL = losses.softmax_cross_entropy, losses.sigmoid_cross_entropy, losses.squared_error

ALL: tuple[Base, ...] = (
    Base("moons", sets.moons, mlp(16, 16, 2), CLASSES, momentum, 0.05, epochs=20),
    Base("digits", sets.digits, mlp(64, 10), CLASSES, optimizers.sgd, 0.3, epochs=20),
    Base("digits deep", sets.digits, mlp(32, 32, 32, 10), CLASSES, optimizers.adam, 3e-3, epochs=20),
    Base("wine", sets.wine, mlp(32, 3), CLASSES, optimizers.sgd, 0.1, batch_size=16, epochs=30),
    Base("cancer", sets.cancer, mlp(32, 1), YES_NO, optimizers.adam, 3e-3, epochs=15),
    Base("diabetes", sets.diabetes, mlp(64, 64, 1), REAL, optimizers.adam, 1e-3, epochs=10),
    Base("friedman", sets.friedman, mlp(64, 64, 1), REAL, optimizers.rmsprop, 2e-3, epochs=30),
    Base("linear", sets.linear, mlp(64, 64, 1), losses.huber, optimizers.adam, 3e-3, epochs=20),
    Base("mnist", sets.mnist, mlp(128, 10), CLASSES, momentum, 0.05, batch_size=64, epochs=8, needs_files=True),
    Base("images", sets.images, conv(), CLASSES, optimizers.adam, 3e-3, "convolutional", epochs=12),
    Base("images, batch norm", sets.images, conv(fnnet.BatchNorm()), CLASSES, momentum, 0.05, "normalized", epochs=12),
    Base("images, residual", sets.images, residual_conv(), CLASSES, optimizers.adam, 1e-2, "normalized", epochs=15),
    Base("digits, layer norm", sets.digits, normalized(32, 32, 10), CLASSES, optimizers.adamw, 3e-3, "normalized"),
    Base("rows", sets.rows, recurrent(fnnet.LSTMCell(24), 10), CLASSES, optimizers.adam, 1e-2, "recurrent", epochs=15),
    Base("adding", sets.adding, recurrent(fnnet.GRUCell(16), 1), REAL, optimizers.adam, 1e-2, "recurrent", epochs=20),
    Base("characters", sets.characters, characters_lstm(), CLASSES, optimizers.adam, 1e-2, "recurrent", epochs=10),
    Base(
        "characters, attention", sets.characters, characters_attention(), CLASSES, optimizers.adam, 3e-3, "attention",
        epochs=10,
    ),
    # Held out.
    Base("circles", sets.circles, mlp(16, 16, 2), CLASSES, optimizers.adam, 1e-2, epochs=20, held_out=True),
    Base("iris", sets.iris, mlp(16, 3), CLASSES, momentum, 0.03, batch_size=16, epochs=40, held_out=True),
    Base("clusters", sets.clusters, mlp(48, 48, 5), CLASSES, optimizers.sgd, 0.1, epochs=15, held_out=True),
    Base("impedance", sets.impedance, mlp(48, 48, 1), REAL, optimizers.adam, 3e-3, epochs=25, held_out=True),
    Base(
        "waves", sets.waves, recurrent(fnnet.GRUCell(24), 4), CLASSES, optimizers.adam, 1e-2, "recurrent", epochs=15,
        held_out=True,
    ),
    Base(
        "shapes", sets.shapes,
        sequential(fnnet.Conv(8, 3), relu, fnnet.MaxPool(2), fnnet.Conv(16, 3), relu, fnnet.GlobalMaxPool(), Dense(3)),
        CLASSES, optimizers.adam, 5e-3, "convolutional", epochs=15, held_out=True,
    ),
)  # fmt: skip

BASES: dict[str, Base] = {base.name: base for base in ALL}


def available(base: Base) -> bool:
    """Return whether the data of a base are on this machine."""
    return not base.needs_files or bool(os.environ.get("FNNET_DATA"))
