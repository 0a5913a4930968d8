"""Learn handwritten digits twice from the same start: with jax.grad and with hand-written backpropagation.

A multilayer perceptron 64-64-10 is trained on scikit-learn's 1,797 real digits with each of the two gradient engines.
Their gradients are compared tensor by tensor in float64, and their final parameters in float32. The exit status is 1
if they disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

import fnnet
from experiments import data
from experiments.results import Results, console, epoch_progress
from fnnet import plots
from fnnet.backprop.check import compare_trees
from fnnet.paths import named_leaves

ENGINES = {"autodiff": jax.value_and_grad, "by hand": fnnet.backprop.value_and_grad}


@dataclass(frozen=True)
class Config:
    hidden: int = 64
    """Number of hidden neurons."""
    epochs: int = 60
    """Passes over the training digits."""
    batch_size: int = 32
    """Digits per update."""
    learning_rate: float = 2e-3
    """Adam's learning rate."""
    weight_decay: float = 1e-3
    """Strength of the L2 penalty on the weights."""
    seed: int = 0
    """Seed of the initial parameters and of the order of the digits."""
    tolerance: float = 1e-10
    """Largest relative difference allowed between the engines' float64 gradients."""
    parameter_tolerance: float = 1e-4
    """Largest relative difference allowed between the final float32 parameters."""
    runs: Path = Path("runs")
    """Folder for the results."""


def run(config: Config) -> int:
    results = Results("digits", config, config.runs)
    split = data.digits()
    model = fnnet.sequential(fnnet.Flatten(), fnnet.Dense(config.hidden), fnnet.relu, fnnet.Dense(10))
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy, fnnet.penalties.l2(config.weight_decay))
    params = model.init(jax.random.key(config.seed), split.train[0])
    console.print(f"{len(split.train[0])} training digits, {len(split.test[0])} test digits; 64-{config.hidden}-10\n")

    report = fnnet.check_gradients(cost, params, split.train, tolerance=config.tolerance)
    console.print(
        f"Gradients of the cost over the training set, by hand against jax.grad:\n{report}\n", highlight=False
    )

    fits = {name: train(name, engine, cost, params, split, config) for name, engine in ENGINES.items()}
    for name, fitted in fits.items():
        for record in zip(*fitted.history.values(), strict=True):
            results.record(engine=name, **dict(zip(fitted.history, record, strict=True)))
    difference = parameter_difference(*(fitted.state.params for fitted in fits.values()))
    agree = report.ok and difference <= config.parameter_tolerance
    console.print(table_of(fits))
    console.print(
        f"the final parameters differ by at most {difference:.1e} (relative, tensor by tensor): "
        f"{'the engines agree' if agree else '[bold red]THE ENGINES DISAGREE[/]'}"
    )

    draw(results, model, fits, split)
    rows = "\n".join(
        f"| {name} | {accuracy(f):.4f} | {seconds(f):.2f} | {compiling(f):.2f} |" for name, f in fits.items()
    )
    results.summary(
        f"| engine | test accuracy | seconds after epoch 1 | seconds of compiling |\n|---|---|---|---|\n{rows}\n\n"
        f"The final parameters differ by at most {difference:.1e} (relative).\n\n```\n{report}\n```"
    )
    return 0 if agree else 1


def train(name: str, engine: Any, cost: fnnet.Cost, params: Any, split: data.Split, config: Config) -> fnnet.FitResult:
    with epoch_progress(f"{name:9}", config.epochs) as progress:
        return fnnet.fit(
            cost,
            fnnet.optimizers.adam(config.learning_rate),
            params,
            split.train,
            key=jax.random.key(config.seed + 1),
            epochs=config.epochs,
            batch_size=config.batch_size,
            validation=split.test,
            metrics={"accuracy": fnnet.accuracy},
            callbacks=[progress],
            value_and_grad=engine,
        )


def parameter_difference(a: Any, b: Any) -> float:
    """Return the largest of ``max |a − b| / max |b|`` over the tensors of two parameter trees."""
    return max(row.relative for row in compare_trees(named_leaves(a), named_leaves(b), tolerance=0))


def accuracy(fitted: fnnet.FitResult) -> float:
    return fitted.history["validation_accuracy"][-1]


def seconds(fitted: fnnet.FitResult) -> float:
    """Return the seconds of all epochs after the first one, which also warms up the machine."""
    return sum(fitted.history["seconds"][1:])


def compiling(fitted: fnnet.FitResult) -> float:
    return sum(fitted.history["compile_seconds"])


def table_of(fits: dict[str, fnnet.FitResult]) -> Table:
    table = Table("engine", "test accuracy", "after epoch 1", "compiling")
    for name, fitted in fits.items():
        table.add_row(name, f"{accuracy(fitted):.4f}", f"{seconds(fitted):.2f} s", f"{compiling(fitted):.2f} s")
    return table


def draw(results: Results, model: fnnet.Sequential, fits: dict[str, fnnet.FitResult], split: data.Split) -> None:
    """Draw the curves of both runs, and the activations and mistakes of the network trained by hand on the test set."""
    images, labels = split.test
    params = fits["by hand"].state.params
    results.figure("curves", plots.training_curves({name: fitted.history for name, fitted in fits.items()}))
    outputs = fnnet.inspect.layer_outputs(model, params, jnp.asarray(images))
    names = [f"{i}: {layer!r}" for i, layer in enumerate(model.layers)]
    results.figure("activations", plots.activation_histograms(dict(zip(names, outputs, strict=True))))
    guesses = np.asarray(outputs[-1].argmax(-1))
    wrong = np.flatnonzero(guesses != labels)
    titles = [f"{labels[i]} read as {guesses[i]}" for i in wrong]
    results.figure("mistakes", plots.image_grid(images[wrong], titles))
