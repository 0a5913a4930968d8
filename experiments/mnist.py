"""Learn MNIST with a multilayer perceptron 784-100-10, or with other hidden layers.

The 60,000 and 10,000 digits come from IDX files in --data-dir or in the folder that FNNET_DATA names. Without both,
they are fetched from OpenML.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from experiments import data
from experiments.results import Results, console, epoch_progress
from fnnet import plots

ENGINES: dict[str, Any] = {"autodiff": jax.value_and_grad, "hand": fnnet.backprop.value_and_grad}


@dataclass(frozen=True)
class Config:
    data_dir: Path | None = None
    """Folder with MNIST's four IDX files."""
    hidden: tuple[int, ...] = (100,)
    """Number of neurons of each hidden layer."""
    engine: Literal["autodiff", "hand"] = "hand"
    """Gradients from jax.grad or from hand-written backpropagation."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Dtype of the network's computation. Parameters stay in float32; float16 uses a dynamic loss scale."""
    epochs: int = 10
    """Passes over the training digits."""
    batch_size: int = 64
    """Digits per update."""
    learning_rate: float = 2e-3
    """Adam's learning rate at the first update; it falls to 0 along half a cosine."""
    seed: int = 0
    """Seed of the initial parameters and of the order of the digits."""
    runs: Path = Path("runs")
    """Folder for the results."""


def run(config: Config) -> None:
    split = data.mnist(config.data_dir)
    results = Results("mnist", config, config.runs)
    hidden = [layer for width in config.hidden for layer in (fnnet.Dense(width), fnnet.relu)]
    model: fnnet.Sequential | fnnet.LowPrecision = fnnet.sequential(fnnet.Flatten(), *hidden, fnnet.Dense(10))
    if config.precision != "float32":
        model = fnnet.LowPrecision(model, config.precision)
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
    updates = config.epochs * -(-len(split.train[0]) // config.batch_size)

    def learning_rate(step: jax.Array) -> jax.Array:
        return config.learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * step.astype(jnp.float32) / updates))

    optimizer = fnnet.optimizers.adam(learning_rate)
    if config.precision == "float16":
        optimizer = fnnet.optimizers.dynamic_loss_scale(optimizer)

    with epoch_progress(config.engine, config.epochs) as progress:
        fitted = fnnet.fit(
            cost,
            optimizer,
            model.init(jax.random.key(config.seed), split.train[0]),
            split.train,
            key=jax.random.key(config.seed + 1),
            epochs=config.epochs,
            batch_size=config.batch_size,
            validation=split.test,
            metrics={"accuracy": fnnet.accuracy},
            callbacks=[progress],
            value_and_grad=ENGINES[config.engine],
        )
    for record in zip(*fitted.history.values(), strict=True):
        results.record(**dict(zip(fitted.history, record, strict=True)))
    accuracy, seconds = fitted.history["validation_accuracy"][-1], sum(fitted.history["seconds"])
    sizes = "-".join(map(str, (784, *config.hidden, 10)))
    epochs = len(fitted.history["epoch"])
    line = f"{sizes}: test accuracy {accuracy:.4f} after {epochs} epochs, {seconds:.1f} s of training"
    console.print(line, highlight=False)

    images, labels = split.test
    guesses = np.asarray(model.apply(fitted.state.params, jnp.asarray(images)).argmax(-1))
    wrong = np.flatnonzero(guesses != labels)
    results.figure("curves", plots.training_curves({config.engine: fitted.history}))
    results.figure("mistakes", plots.image_grid(images[wrong], [f"{labels[i]} read as {guesses[i]}" for i in wrong]))
    results.summary(line)
