"""Learn MNIST with a convolutional network: 20 filters 5×5, pool, 40 filters 5×5, pool, dense 100, softmax.

The 60,000 and 10,000 digits come from IDX files in --data-dir or in the folder that FNNET_DATA names. Without both,
they are fetched from OpenML. ``--dropout 0.4 --shift 2 --epochs 20`` adds dropout and shifts the images anew in every
epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from experiments import data
from experiments.cli import ExperimentError
from experiments.results import Results, console, epoch_progress
from fnnet import plots
from fnnet.data import augment

ENGINES: dict[str, Any] = {"autodiff": jax.value_and_grad, "hand": fnnet.backprop.value_and_grad}


@dataclass(frozen=True)
class Config:
    data_dir: Path | None = None
    """Folder with MNIST's four IDX files."""
    filters: tuple[int, int] = (20, 40)
    """Number of filters of the two convolutions."""
    hidden: int = 100
    """Number of neurons of the dense layer."""
    dropout: float = 0.0
    """Rate at which inputs and outputs of the dense layer are dropped in training."""
    shift: int = 0
    """Largest shift of an image in pixels, in each direction; drawn anew in every epoch."""
    engine: Literal["autodiff", "hand"] = "hand"
    """Gradients from jax.grad or from hand-written backpropagation."""
    epochs: int = 5
    """Passes over the training digits."""
    batch_size: int = 64
    """Digits per update."""
    learning_rate: float = 2e-3
    """Adam's learning rate at the first update; it falls to 0 along half a cosine."""
    seed: int = 0
    """Seed of the initial parameters, of the order of the digits, of dropout and of the shifts."""
    runs: Path = Path("runs")
    """Folder for the results."""


def run(config: Config) -> None:
    if config.epochs < 1:
        raise ExperimentError(f"--epochs is {config.epochs}; expected at least 1")
    split = data.mnist(config.data_dir)
    (train_x, train_y), test = ((images[..., None], labels) for images, labels in split)
    x, y = jnp.asarray(train_x), jnp.asarray(train_y)
    results = Results("mnist_cnn", config, config.runs)
    model = network(config)
    updates = config.epochs * -(-len(x) // config.batch_size)
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
    optimizer = fnnet.optimizers.adam(fnnet.schedules.cosine(config.learning_rate, updates))
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    state = fnnet.TrainState.create(model.init(init_key, x), optimizer, train_key)

    shift = fnnet.bind(augment.random_shift, most=config.shift)
    epoch = fnnet.train_epoch(
        cost,
        optimizer,
        batch_size=config.batch_size,
        value_and_grad=ENGINES[config.engine],
        augment=augment.inputs(shift) if config.shift else None,
    )
    start = perf_counter()
    compiled = jax.jit(epoch, donate_argnums=0).lower(state, (x, y)).compile()
    evaluation = jax.jit(lambda params, data: fnnet.evaluate(cost, params, data, {"accuracy": fnnet.accuracy}))
    compile_seconds = perf_counter() - start
    history: dict[str, list[float]] = {}
    with epoch_progress(config.engine, config.epochs) as progress:
        for number in range(1, config.epochs + 1):
            start = perf_counter()
            state, metrics = jax.block_until_ready(compiled(state, (x, y)))
            record = {"epoch": number, "cost": float(metrics["cost"]), "seconds": perf_counter() - start}
            record |= {f"validation_{name}": float(v) for name, v in evaluation(state.params, test).items()}
            progress(state, record)
            results.record(**record)
            for name, value in record.items():
                history.setdefault(name, []).append(value)

    line = (
        f"test accuracy {history['validation_accuracy'][-1]:.4f} after {config.epochs} epochs, "
        f"{sum(history['seconds']):.1f} s of training and {compile_seconds:.1f} s of compiling"
    )
    console.print(line, highlight=False)
    guesses = np.asarray(guesses_of(model, state.params, test[0]))
    wrong = np.flatnonzero(guesses != test[1])
    titles = [f"{test[1][i]} read as {guesses[i]}" for i in wrong]
    filters = np.moveaxis(np.asarray(state.params[0]["w"])[:, :, 0], -1, 0)
    results.figure("curves", plots.training_curves({config.engine: history}))
    results.figure("mistakes", plots.image_grid(test[0][wrong, :, :, 0], titles))
    results.figure("filters", plots.filter_grid(filters))
    results.summary(line)


def network(config: Config) -> fnnet.Sequential:
    """Return the network; inputs are ``(N, 28, 28, 1)``, outputs ``(N, 10)`` are scores before the softmax."""
    dropout = (fnnet.Dropout(config.dropout),) if config.dropout else ()
    first, second = config.filters
    return fnnet.sequential(
        *(fnnet.Conv(first, 5), fnnet.relu, fnnet.MaxPool(2)),
        *(fnnet.Conv(second, 5), fnnet.relu, fnnet.MaxPool(2)),
        *(fnnet.Flatten(), *dropout, fnnet.Dense(config.hidden), fnnet.relu, *dropout, fnnet.Dense(10)),
    )


def guesses_of(model: fnnet.Sequential, params: Any, images: Any, batch_size: int = 1000) -> np.ndarray[Any, Any]:
    """Return the class with the highest score for each image, computed a batch at a time."""
    classify = jax.jit(lambda images: model.apply(params, images).argmax(-1))
    return np.concatenate([np.asarray(classify(images[i : i + batch_size])) for i in range(0, len(images), batch_size)])
