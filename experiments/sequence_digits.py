"""Read digits row by row, as sequences, with an RNN, a GRU and an LSTM, and compare them.

An image of T rows of D pixels is a sequence of T steps of D features. The class comes from the state after the last
row. The digits are MNIST's (28 steps) if ``--data-dir`` or FNNET_DATA names their folder, and otherwise the 1,797
digits of scikit-learn (8 steps).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

import fnnet
from experiments import data
from experiments.cli import ExperimentError
from experiments.results import Results, console, epoch_progress
from experiments.tables import TableRows, markdown_table, rich_table
from fnnet import optimizers, plots
from fnnet.layers.cells import Cell

CELLS: dict[str, Callable[[int], Cell]] = {"RNN": fnnet.RNNCell, "GRU": fnnet.GRUCell, "LSTM": fnnet.LSTMCell}
ENGINES: dict[str, Any] = {"autodiff": jax.value_and_grad, "hand": fnnet.backprop.value_and_grad}


@dataclass(frozen=True)
class Config:
    digits: Literal["small", "mnist"] | None = None
    """scikit-learn's digits of 8×8 pixels or MNIST's of 28×28; by default MNIST's if a folder with them is named."""
    data_dir: Path | None = None
    """Folder with MNIST's four IDX files."""
    features: int = 64
    """Number of neurons of the state."""
    epochs: int | None = None
    """Passes over the training digits; by default 40 over the small digits and 3 over MNIST's."""
    batch_size: int = 32
    """Digits per update."""
    learning_rate: float = 3e-3
    """Adam's learning rate at the first update; it falls to 0 along half a cosine."""
    clip: float = 1.0
    """Largest norm of a gradient; a longer gradient is scaled down to it."""
    engine: Literal["autodiff", "hand"] = "hand"
    """Gradients from jax.grad or from hand-written backpropagation through time."""
    seed: int = 0
    """Seed of the initial parameters and of the order of the digits."""
    runs: Path = Path("runs")
    """Folder for the results."""


def run(config: Config) -> None:
    mnist = config.digits == "mnist" or (config.digits is None and has_folder(config))
    epochs = config.epochs if config.epochs is not None else (3 if mnist else 40)
    if epochs < 1:
        raise ExperimentError(f"--epochs is {epochs}; expected at least 1")
    for name in ("features", "batch_size"):
        if getattr(config, name) < 1:
            raise ExperimentError(f"--{name.replace('_', '-')} is {getattr(config, name)}; expected at least 1")
    split = read_mnist(config) if mnist else data.digits()
    results = Results("sequence_digits", config, config.runs)
    examples, steps, pixels = split.train[0].shape
    console.print(
        f"{examples} training digits, {len(split.test[0])} test digits; {steps} rows of {pixels} pixels; "
        f"{config.features} neurons\n",
        highlight=False,
    )
    fits = {}
    for name, cell in CELLS.items():
        fits[name] = train(name, cell(config.features), split, epochs, config)
        for record in zip(*fits[name].history.values(), strict=True):
            results.record(cell=name, **dict(zip(fits[name].history, record, strict=True)))
    table = table_of(fits)
    console.print(rich_table(*table))
    results.figure("curves", curves({name: fitted.history for name, fitted in fits.items()}))
    results.summary(f"{steps} rows of {pixels} pixels.\n\n{markdown_table(*table)}")


def read_mnist(config: Config) -> data.Split:
    try:
        return data.mnist(config.data_dir)
    except ExperimentError as error:
        raise ExperimentError(f"{error}; or pass --digits small for scikit-learn's digits") from error


def has_folder(config: Config) -> bool:
    return config.data_dir is not None or bool(os.environ.get("FNNET_DATA"))


def network(cell: Cell) -> fnnet.Sequential:
    """Return the network; inputs are ``(N, T, D)``, outputs ``(N, 10)`` are scores before the softmax."""
    return fnnet.sequential(fnnet.Recurrent(cell, return_sequences=False), fnnet.Dense(10))


def train(name: str, cell: Cell, split: data.Split, epochs: int, config: Config) -> fnnet.FitResult:
    cost = fnnet.Cost(network(cell), fnnet.losses.softmax_cross_entropy)
    rate = fnnet.schedules.cosine(config.learning_rate, epochs * -(-len(split.train[0]) // config.batch_size))
    with epoch_progress(f"{name:4}", epochs) as progress:
        return fnnet.fit(
            cost,
            fnnet.chain(optimizers.clip_by_global_norm(config.clip), optimizers.adam(rate)),
            cost.model.init(jax.random.key(config.seed), split.train[0]),
            split.train,
            key=jax.random.key(config.seed + 1),
            epochs=epochs,
            batch_size=config.batch_size,
            validation=split.test,
            metrics={"accuracy": fnnet.accuracy},
            callbacks=[progress],
            value_and_grad=ENGINES[config.engine],
        )


def table_of(fits: Mapping[str, fnnet.FitResult]) -> TableRows:
    rows = []
    for name, fitted in fits.items():
        history, count = fitted.history, sum(leaf.size for leaf in jax.tree.leaves(fitted.state.params))
        numbers = [history["validation_accuracy"][-1], history["validation_cost"][-1], history["cost"][-1]]
        accuracy, test, training = (f"{number:.4f}" for number in numbers)
        rows.append([name, f"{count:,}", accuracy, test, training, f"{sum(history['seconds']):.1f}"])
    return ["cell", "parameters", "test accuracy", "test cost", "training cost", "seconds"], rows


def curves(histories: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw training cost, test cost and test error by epoch, all on log scales."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    panels = {"cost": "training cost", "validation_cost": "test cost", "validation_accuracy": "test error, %"}
    for ax, (key, title) in zip(axes, panels.items(), strict=True):
        for i, (name, history) in enumerate(histories.items()):
            values = np.asarray(history[key], np.float64)
            look: dict[str, Any] = plots.style(i)
            ax.plot(history["epoch"], 100 * (1 - values) if "accuracy" in key else values, label=name, **look)
        ax.set(title=title, xlabel="epoch", yscale="log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        ax.yaxis.set_minor_locator(NullLocator())
        plots.tidy(ax)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(histories), frameon=False)
    return figure
