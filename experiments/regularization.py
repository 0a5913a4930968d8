"""What keeps a network from overfitting: L1, L2, elastic net, dropout and early stopping on 150 real digits.

Trains multilayer perceptrons 64-128-10 on small samples of scikit-learn's digits, all samples and strengths of a method
as one compiled program. Strengths are chosen by the validation cost; the test digits are looked at when all is chosen.
L1 is done twice: by the proximal step, which leaves weights that are exactly 0, and along its subgradient, which
leaves none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

import fnnet
from experiments import data
from experiments import regularization_pictures as pictures
from experiments.results import Results, console
from fnnet import optimizers, penalties
from fnnet.paths import is_weight, named_leaves

LOSS = fnnet.losses.softmax_cross_entropy


@dataclass(frozen=True)
class Config:
    hidden: int = 128
    """Neurons of the hidden layer."""
    train_size: int = 150
    """Digits to learn from."""
    validation_size: int = 150
    """Digits to choose strengths and the time to stop with."""
    seeds: int = 8
    """Samples of digits, each with first parameters and an order of its own."""
    epochs: int = 300
    """Passes over the training digits."""
    batch_size: int = 25
    """Digits per update."""
    learning_rate: float = 0.5
    """Rate of gradient descent with momentum, the same for all."""
    l1: tuple[float, ...] = (3e-5, 1e-4, 3e-4)
    """Strengths of the L1 penalty to choose from."""
    l2: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Strengths of the L2 penalty to choose from. The elastic net's are all pairs."""
    dropout: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Rates of dropout on the hidden layer to choose from."""
    small: float = 1e-3
    """Weights with a magnitude below are counted as small."""
    seed: int = 0
    """Seed of everything random."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Fit(NamedTuple):
    """What training left. Fits of several seeds have them on the first axis of every array."""

    curves: dict[str, Any]  # cost (without penalty) and accuracy after every epoch, "training" and "validation"
    params: Any  # at the end
    best_params: Any  # at the epoch of the lowest validation cost


class Choice(NamedTuple):
    """A way to regularize, with the strength of the lowest validation cost, and what it came to."""

    strength: str
    fits: Fit
    epochs: Any  # after which the parameters of each seed are taken
    params: Any
    test: dict[str, Any]  # cost and accuracy of every seed


def run(config: Config) -> None:
    results = Results("regularization", config, config.runs)
    split = data.digits(test_share=0.5)
    pool, test = ((jnp.asarray(x), jnp.asarray(y)) for x, y in split)
    console.print(
        f"{config.seeds} samples of {config.train_size} digits to learn and {config.validation_size} to choose with, "
        f"out of {len(pool[0])}; {len(test[0])} others to test. 64-{config.hidden}-10"
    )
    with console.status("training"):
        choices = {name: choose(candidates, test) for name, candidates in train_all(config, pool).items()}
    choices["early stopping"] = stopped_early(choices["none"], test)
    rows = {name: row_of(choice, choices["none"], config.small) for name, choice in choices.items()}
    console.print(table_of(rows))
    for name, choice in choices.items():
        for seed in range(config.seeds):
            values = {f"test_{key}": float(value[seed]) for key, value in choice.test.items()}
            results.record(method=name, strength=choice.strength, seed=seed, **values)
    draw(results, choices)
    header = list(next(iter(rows.values())))
    lines = [f"| method | {' | '.join(header)} |", "|---" * (len(header) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(row.values())} |" for name, row in rows.items()]
    results.summary(
        "\n".join(lines)
        + f"\n\nMeans ± standard deviations over {config.seeds} samples and seeds; costs without penalties. "
        + f"Small: |w| < {config.small:g}."
    )


def draw(results: Results, choices: dict[str, Choice]) -> None:
    """Early stopping is a mark in the panel of no regularization; both ways of L1 have the same curves."""
    costs = {
        name.removesuffix(", proximal"): {which: curve["cost"] for which, curve in choice.fits.curves.items()}
        for name, choice in choices.items()
        if name not in ("early stopping", "L1, subgradient")
    }
    accuracies = {name: choice.test["accuracy"] for name, choice in choices.items()}
    results.figure("curves", pictures.curves(costs, accuracies, choices["early stopping"].epochs))
    weights = {name: weights_of(choice.params) for name, choice in choices.items() if name != "early stopping"}
    results.figure("weights", pictures.histograms(weights))


def train_all(config: Config, pool: fnnet.types.Batch) -> dict[str, dict[str, Fit]]:
    """For every method the fits with each of its strengths, by their names. All start from the same weights."""
    pairs = [(0.0, 0.0), *((a, 0.0) for a in config.l1), *((0.0, b) for b in config.l2)]
    pairs += [(a, b) for a in config.l1 for b in config.l2]
    proximal = fits_of(partial(fit, config, pool, 0.0, True), config, pairs)
    subgradient = fits_of(partial(fit, config, pool, 0.0, False), config, [(a, 0.0) for a in config.l1])
    dropped = {rate: fits_of(partial(fit, config, pool, rate, True), config, [(0.0, 0.0)]) for rate in config.dropout}
    return {
        "none": {"": proximal[0.0, 0.0]},
        "L1, proximal": {f"{a:g}": proximal[a, 0.0] for a in config.l1},
        "L1, subgradient": {f"{a:g}": subgradient[a, 0.0] for a in config.l1},
        "L2": {f"{b:g}": proximal[0.0, b] for b in config.l2},
        "elastic net": {f"{a:g}, {b:g}": proximal[a, b] for a in config.l1 for b in config.l2},
        "dropout": {f"{rate:g}": fits[0.0, 0.0] for rate, fits in dropped.items()},
    }


def fits_of(
    one_fit: Callable[..., Fit], config: Config, pairs: list[tuple[float, float]]
) -> dict[tuple[float, float], Fit]:
    """All pairs of an L1 and an L2 strength and all seeds as one program; by the pair, the fits of the seeds."""
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    l1, l2 = jnp.asarray(pairs, jnp.float32).T
    many = jax.jit(jax.vmap(jax.vmap(one_fit, (0, None, None)), (None, 0, 0)))(keys, l1, l2)
    return {pair: jax.tree.map(lambda leaf, i=i: leaf[i], many) for i, pair in enumerate(pairs)}


def fit(config: Config, pool: Any, dropout: float, proximal: bool, key: jax.Array, l1: jax.Array, l2: jax.Array) -> Fit:
    """Train one network on a sample of the pool that ``key`` draws. ``proximal``: how the L1 penalty is descended."""
    sample_key, init_key, train_key = jax.random.split(key, 3)
    order = jax.random.permutation(sample_key, len(pool[0]))
    size, end = config.train_size, config.train_size + config.validation_size
    train, validation = (tuple(a[rows] for a in pool) for rows in (order[:size], order[size:end]))

    model = network(config.hidden, dropout)
    optimizer = optimizers.momentum(config.learning_rate)
    if proximal:
        cost = fnnet.Cost(model, LOSS, penalties.l2(l2))
        optimizer = fnnet.chain(optimizer, optimizers.proximal_l1(l1, config.learning_rate))
    else:
        cost = fnnet.Cost(model, LOSS, penalties.elastic_net(l1, l2))
    epoch = fnnet.train_epoch(cost, optimizer, batch_size=config.batch_size)
    evaluation = evaluation_of(model)

    def pass_over(carry: Any, _: Any) -> Any:
        state, best_params, best_cost = carry
        state, _ = epoch(state, train)
        measured = {"training": evaluation(state.params, train), "validation": evaluation(state.params, validation)}
        cost = measured["validation"]["cost"]
        best_params = jax.tree.map(partial(jnp.where, cost < best_cost), state.params, best_params)
        return (state, best_params, jnp.minimum(cost, best_cost)), measured

    state = fnnet.TrainState.create(model.init(init_key, pool[0]), optimizer, train_key)
    start = (state, state.params, jnp.inf)
    (state, best_params, _), measured = jax.lax.scan(pass_over, start, length=config.epochs)
    return Fit(measured, state.params, best_params)


def evaluation_of(model: fnnet.Sequential) -> Callable[..., dict[str, jax.Array]]:
    return fnnet.evaluate(fnnet.Cost(model, LOSS), {"accuracy": fnnet.accuracy})


def choose(candidates: dict[str, Fit], test: fnnet.types.Batch) -> Choice:
    """The candidate whose validation cost at the end, its mean over the seeds, is the lowest."""
    strength, fits = min(candidates.items(), key=lambda item: float(item[1].curves["validation"]["cost"][:, -1].mean()))
    costs = fits.curves["training"]["cost"]
    return Choice(strength, fits, np.full(len(costs), costs.shape[1]), fits.params, tested(fits.params, test))


def stopped_early(none: Choice, test: fnnet.types.Batch) -> Choice:
    """The networks without a penalty, each as it was at its lowest validation cost."""
    epochs = 1 + np.asarray(none.fits.curves["validation"]["cost"]).argmin(1)
    params = none.fits.best_params
    return Choice(f"epoch {epochs.min()} to {epochs.max()}", none.fits, epochs, params, tested(params, test))


def tested(params: Any, test: fnnet.types.Batch) -> dict[str, Any]:
    evaluation = evaluation_of(network(params[1]["b"].shape[-1]))  # without train=True dropout does nothing
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(evaluation, (0, None)))(params, test))


def network(hidden: int, dropout: float = 0.0) -> fnnet.Sequential:
    """The same number of layers with dropout and without, so that the weights start from the same keys."""
    between = fnnet.Dropout(dropout) if dropout else fnnet.identity
    return fnnet.sequential(fnnet.Flatten(), fnnet.Dense(hidden), fnnet.relu, between, fnnet.Dense(10))


def weights_of(params: Any) -> Any:
    """All weights, no biases: ``(seeds, weights)``."""
    weights = [np.asarray(leaf) for name, leaf in named_leaves(params) if is_weight(name)]
    return np.concatenate([w.reshape(len(w), -1) for w in weights], axis=1)


def row_of(choice: Choice, none: Choice, small: float) -> dict[str, str]:
    weights, seeds = weights_of(choice.params), np.arange(len(choice.epochs))
    costs = {which: np.asarray(c["cost"])[seeds, choice.epochs - 1] for which, c in choice.fits.curves.items()}
    return {
        "strength": choice.strength or "–",
        "training cost": spread(costs["training"], 3),
        "validation cost": spread(costs["validation"], 3),
        "test cost": spread(choice.test["cost"], 3),
        "test accuracy": spread(choice.test["accuracy"], 4),
        "more than none": "–" if choice is none else spread(choice.test["accuracy"] - none.test["accuracy"], 4),
        "weights = 0": f"{(weights == 0).mean():.1%}",
        "small": f"{(np.abs(weights) < small).mean():.1%}",
    }


def spread(values: Any, digits: int) -> str:
    """Mean ± standard deviation of the seeds."""
    values = np.asarray(values, np.float64)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=min(1, len(values) - 1)):.{digits}f}"


def table_of(rows: dict[str, dict[str, str]]) -> Table:
    table = Table("method", *next(iter(rows.values())))
    for name, row in rows.items():
        table.add_row(name, *row.values())
    return table
