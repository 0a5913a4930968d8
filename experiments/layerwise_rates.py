"""A rate for every layer: uniform, falling towards the input, or from trust ratios (LARS, LAMB).

The network 64-32-32-32-10 of sigmoids learns scikit-learn's digits; its gradients shrink towards the input. Four
optimizers start from the same parameters, each at the rate of a grid with the lowest final cost over the training
digits; all rates of an optimizer train in one program. Two ratios are measured for every update and layer: the rate,
which is the length of the update over that of the gradient (without momentum the learning rate itself), and the update
ratio, which is the length of the update over that of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from experiments import data, tuning
from experiments.results import Results, console
from experiments.tables import TableRows, markdown_table, rich_table
from experiments.tuning import Numbers
from fnnet import inspect, optimizers, plots
from fnnet.norms import norm
from fnnet.paths import is_weight, named_leaves
from fnnet.types import Array, Params, Scalar


@dataclass(frozen=True)
class Config:
    hidden: tuple[int, ...] = (32, 32, 32)
    """Neurons of the hidden layers."""
    decay: float = 0.5
    """Rate of a layer, as a fraction of the rate of the next layer."""
    epochs: int = 40
    """Passes over the training digits."""
    batch_size: int = 32
    """Digits per update."""
    lowest_rate: float = 1e-3
    """Lowest learning rate of the grid."""
    highest_rate: float = 1e2
    """Highest learning rate of the grid."""
    rates: int = 16
    """Number of rates of the grid, evenly spaced in their logarithm."""
    seed: int = 0
    """Seed of the first parameters and of the order of the digits."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Task(NamedTuple):
    """What is the same for every optimizer, and the functions that measure the cost and accuracy over the digits."""

    cost: fnnet.Cost
    params: Params
    train: tuple[Array, Array]
    on_train: Callable[[Params], dict[str, Array]]
    on_test: Callable[[Params], dict[str, Array]]


class Trained(NamedTuple):
    """The run at the best rate of a grid."""

    rate: float
    at_the_edge: bool  # whether the rate is the lowest or highest of the grid
    cost: float  # over the training digits, at the end
    accuracy: float  # on the test digits, at the end
    rates: dict[str, Numbers]  # by layer, one number for each epoch: the mean over its updates
    ratios: dict[str, Numbers]


def run(config: Config) -> None:
    results = Results("layerwise_rates", config, config.runs)
    split = data.digits()
    x, y = jnp.asarray(split.train[0]), jnp.asarray(split.train[1])
    hidden = [layer for width in config.hidden for layer in (fnnet.Dense(width), fnnet.sigmoid)]
    model = fnnet.sequential(fnnet.Flatten(), *hidden, fnnet.Dense(10))
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
    params = model.init(jax.random.key(config.seed), x)
    task = Task(cost, params, (x, y), tuning.along(cost, split.train), tuning.along(cost, split.test))
    methods = {name: train(make, task, config) for name, make in methods_for(params, config).items()}
    for name, method in methods.items():
        for layer, ratios in method.ratios.items():
            results.record(method=name, layer=layer, rates=method.rates[layer].tolist(), update_ratios=ratios.tolist())
    console.print(rich_table(*table_of(methods)))
    draw(results, methods)
    results.summary(f"{markdown_table(*table_of(methods))}\n\n{NOTE}")


def methods_for(params: Params, config: Config) -> dict[str, Callable[[Scalar], fnnet.Optimizer]]:
    by_depth = optimizers.layerwise(optimizers.depth_decay(params, config.decay))
    return {
        "uniform": optimizers.sgd,
        "depth decay": lambda rate: fnnet.chain(optimizers.sgd(rate), by_depth),
        "LARS": lambda rate: optimizers.lars(rate, momentum=0.0),
        "LAMB": optimizers.lamb,
    }


def measure(params: Params, grads: Params, updates: Params) -> dict[str, Array]:
    """Return the update ratios and, as ``"rate NAME"``, the length of the update over that of the gradient."""
    lengths = dict(named_leaves(jax.tree.map(norm, updates)))
    rates = {f"rate {name}": lengths[name] / jnp.maximum(norm(g), 1e-30) for name, g in named_leaves(grads)}
    return rates | inspect.update_ratios(params, grads, updates)


def train(make: Callable[[Scalar], fnnet.Optimizer], task: Task, config: Config) -> Trained:
    rates = tuning.log_spaced(config.lowest_rate, config.highest_rate, config.rates)
    options: dict[str, Any] = {"epochs": config.epochs, "batch_size": config.batch_size, "drop_last": True}
    key = jax.random.key(config.seed + 1)
    at_rate = tuning.training(task.cost, make, task.params, task.train, key=key, measure=measure, **options)
    runs = jax.jit(jax.vmap(at_rate))(rates)
    ends = jax.tree.map(lambda leaves: leaves[:, -1], runs.params)
    costs, accuracies = task.on_train(ends)["cost"], task.on_test(ends)["accuracy"]
    best = tuning.lowest(costs)

    def by_layer(kind: str) -> dict[str, Numbers]:
        layers = [name for name, p in named_leaves(task.params) if is_weight(p)]
        return {layer_name(task.params, name): np.asarray(runs.metrics[f"{kind} {name}"][best]) for name in layers}

    return Trained(
        rate=float(rates[best]),
        at_the_edge=best in (0, config.rates - 1),
        cost=float(costs[best]),
        accuracy=float(accuracies[best]),
        rates=by_layer("rate"),
        ratios=by_layer("update_ratio"),
    )


def layer_name(params: Params, name: str) -> str:
    """Return the name of the layer of a matrix, such as ``"1: 64→32"`` for the first one from the input."""
    matrices = {n: p.shape for n, p in named_leaves(params) if is_weight(p)}
    inputs, outputs = matrices[name]
    return f"{list(matrices).index(name) + 1}: {inputs}→{outputs}"


NOTE = (
    "Cost over all training digits. Rates and update ratios are those of the first layer over those of the last, in "
    "the first epoch unless stated otherwise. * marks a rate at the edge of the grid."
)


def table_of(methods: Mapping[str, Trained]) -> TableRows:
    rows = [
        (
            name,
            f"{method.rate:.2g}" + "*" * method.at_the_edge,
            f"{method.cost:.1e}",
            f"{method.accuracy:.3f}",
            f"{first_over_last(method.rates):.2g}",
            f"{first_over_last(method.ratios):.2g}",
            f"{first_over_last(method.ratios, slice(None)):.2g}",
        )
        for name, method in methods.items()
    ]
    layers = f"layers 1 / {len(next(iter(methods.values())).rates)}"
    measured = (f"rate, {layers}", f"update ratio, {layers}", "the same, all epochs")
    return ("rates", "rate", "final cost", "test accuracy", *measured), rows


def first_over_last(layers: Mapping[str, Numbers], epochs: slice = slice(1)) -> float:
    first, *_, last = (each[epochs].mean() for each in layers.values())
    return float(first / last)


def draw(results: Results, methods: Mapping[str, Trained]) -> None:
    """Draw radar charts of the first epoch, where layers differ most, and the update ratios of all layers by epoch."""
    rates = {name: {layer: float(each[0]) for layer, each in method.rates.items()} for name, method in methods.items()}
    ratios = {name: {layer: float(each[0]) for layer, each in one.ratios.items()} for name, one in methods.items()}
    charts = {
        "Rate in the first epoch,\n‖update‖ / ‖gradient‖": rates,
        "Update ratio in the first epoch,\n‖update‖ / ‖weights‖": ratios,
    }
    results.figure("radar", plots.radar_charts(charts))
    groups = {
        name: {layer: (np.arange(1, len(each) + 1), each) for layer, each in method.ratios.items()}
        for name, method in methods.items()
    }
    results.figure(
        "update_ratios",
        plots.line_panels(groups, xlabel="epoch", ylabel="‖update‖ / ‖weights‖", yscale="log", columns=2),
    )
