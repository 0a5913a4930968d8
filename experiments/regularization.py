"""What keeps a network from overfitting: L1, L2, elastic net, dropout and early stopping on 150 real digits.

Networks 64-128-10 learn small samples of scikit-learn's digits; all samples and strengths of a method train in one
compiled program. The validation cost chooses the strengths; the test digits are used only after that. L1 is applied in
two ways: by the proximal step, which makes weights exactly 0, and along its subgradient, which makes none exactly 0.
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
from experiments.cli import ExperimentError
from experiments.results import Results, console
from fnnet import optimizers, penalties
from fnnet.paths import is_weight

LOSS = fnnet.losses.softmax_cross_entropy
Tested = Callable[[Any], dict[str, Any]]  # parameters of all seeds -> cost and accuracy on the test digits


@dataclass(frozen=True)
class Config:
    hidden: int = 128
    """Neurons of the hidden layer."""
    train_size: int = 150
    """Number of training digits."""
    validation_size: int = 150
    """Number of digits that choose the strengths and the time to stop."""
    seeds: int = 8
    """Number of samples of digits, each with its own first parameters and its own order."""
    epochs: int = 300
    """Passes over the training digits."""
    batch_size: int = 25
    """Digits per update."""
    learning_rate: float = 0.5
    """Rate of gradient descent with momentum, the same for all methods."""
    l1: tuple[float, ...] = (3e-5, 1e-4, 3e-4)
    """Strengths of the L1 penalty to choose from."""
    l2: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Strengths of the L2 penalty to choose from. The elastic net chooses from all pairs."""
    dropout: tuple[float, ...] = (0.1, 0.25, 0.5)
    """Rates of dropout on the hidden layer to choose from."""
    small: float = 1e-3
    """Magnitude below which a weight counts as small."""
    seed: int = 0
    """Seed of all random numbers."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Strengths(NamedTuple):
    """The strengths of L1 along its subgradient, L1 by the proximal step, and L2."""

    subgradient_l1: Any = 0.0
    proximal_l1: Any = 0.0
    l2: Any = 0.0


class Fit(NamedTuple):
    """The result of training. If there are several seeds, they are the first axis of every array."""

    curves: dict[str, Any]  # "training" and "validation": the cost without penalty and the accuracy after every epoch
    params: Any  # at the end
    best_params: Any  # at the epoch of the lowest validation cost


class Choice(NamedTuple):
    """A method at the strength of the lowest validation cost, and its results."""

    strength: str
    fits: Fit
    epochs: Any  # the epoch of each seed whose parameters are taken
    params: Any
    test: dict[str, Any]  # cost and accuracy of every seed


def run(config: Config) -> None:
    results = Results("regularization", config, config.runs)
    split = data.digits(test_share=0.5)
    pool, test = ((jnp.asarray(x), jnp.asarray(y)) for x, y in split)
    if config.train_size + config.validation_size > len(pool[0]):
        raise ExperimentError(
            f"train_size is {config.train_size} and validation_size is {config.validation_size}; expected at most "
            f"{len(pool[0])} together, the number of digits that are not test digits"
        )
    console.print(
        f"{config.seeds} samples of {config.train_size} training and {config.validation_size} validation digits "
        f"from {len(pool[0])}; {len(test[0])} test digits. 64-{config.hidden}-10"
    )
    with console.status("training"):
        candidates = train_all(config, pool)
    evaluation = jax.jit(jax.vmap(evaluation_of(network(config.hidden)), (0, None)))

    def tested(params: Any) -> dict[str, Any]:
        return {name: np.asarray(values) for name, values in evaluation(params, test).items()}

    choices = {name: choose(fits, tested) for name, fits in candidates.items()}
    choices["early stopping"] = stopped_early(choices["none"], tested)
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
    about = (
        f"Means ± standard deviations over {config.seeds} samples. Costs are without penalties. Accuracy is "
        f"on the test digits; above none is the difference sample by sample. The last columns are the fractions of "
        f"weights that are exactly 0, and of |w| < {config.small:g}."
    )
    results.summary("\n".join([*lines, "", about]))


def draw(results: Results, choices: dict[str, Choice]) -> None:
    """Draw the curves, with early stopping as marks in the panel "none" and one panel for both ways of L1."""
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
    """Return the fits of every method by strength. All start from the same weights."""
    none = Strengths()
    proximal = {f"{a:g}": Strengths(proximal_l1=a) for a in config.l1}
    subgradient = {f"{a:g}": Strengths(subgradient_l1=a) for a in config.l1}
    ridge = {f"{b:g}": Strengths(l2=b) for b in config.l2}
    both = {f"{a:g}, {b:g}": Strengths(proximal_l1=a, l2=b) for a in config.l1 for b in config.l2}

    fits = fit_many(
        config, pool, 0.0, [none, *(s for table in (proximal, subgradient, ridge, both) for s in table.values())]
    )
    return {
        "none": {"": fits[none]},
        "L1, proximal": {name: fits[strengths] for name, strengths in proximal.items()},
        "L1, subgradient": {name: fits[strengths] for name, strengths in subgradient.items()},
        "L2": {name: fits[strengths] for name, strengths in ridge.items()},
        "elastic net": {name: fits[strengths] for name, strengths in both.items()},
        "dropout": {f"{rate:g}": fit_many(config, pool, rate, [none])[none] for rate in config.dropout},
    }


def fit_many(config: Config, pool: Any, dropout: float, candidates: list[Strengths]) -> dict[Strengths, Fit]:
    """Train all candidates with all seeds in one program, and return the fits of the seeds for each candidate."""
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    strengths = Strengths(*(jnp.asarray(column, jnp.float32) for column in zip(*candidates, strict=True)))
    one_fit = partial(fit, config, pool, dropout)
    many = jax.jit(jax.vmap(jax.vmap(one_fit, (0, None)), (None, 0)))(keys, strengths)
    return {candidate: jax.tree.map(lambda leaf, i=i: leaf[i], many) for i, candidate in enumerate(candidates)}


def fit(config: Config, pool: Any, dropout: float, key: jax.Array, strengths: Strengths) -> Fit:
    """Train one network on a sample of the pool that ``key`` draws."""
    sample_key, init_key, train_key = jax.random.split(key, 3)
    train, validation = sample(config, pool, sample_key)
    model = network(config.hidden, dropout)
    cost = fnnet.Cost(model, LOSS, penalties.elastic_net(strengths.subgradient_l1, strengths.l2))
    optimizer = fnnet.chain(
        optimizers.momentum(config.learning_rate),
        optimizers.proximal_l1(strengths.proximal_l1, config.learning_rate),
    )
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


def sample(config: Config, pool: Any, key: jax.Array) -> tuple[Any, Any]:
    """Return training digits and validation digits."""
    order = jax.random.permutation(key, len(pool[0]))
    size, end = config.train_size, config.train_size + config.validation_size
    train, validation = (tuple(a[rows] for a in pool) for rows in (order[:size], order[size:end]))
    return train, validation


def evaluation_of(model: fnnet.Sequential) -> Callable[..., dict[str, jax.Array]]:
    return lambda params, data: fnnet.evaluate(fnnet.Cost(model, LOSS), params, data, {"accuracy": fnnet.accuracy})


def choose(candidates: dict[str, Fit], tested: Tested) -> Choice:
    """Return the candidate with the lowest final validation cost, in the mean over the seeds."""
    strength, fits = min(candidates.items(), key=lambda item: float(item[1].curves["validation"]["cost"][:, -1].mean()))
    costs = fits.curves["training"]["cost"]
    return Choice(strength, fits, np.full(len(costs), costs.shape[1]), fits.params, tested(fits.params))


def stopped_early(none: Choice, tested: Tested) -> Choice:
    """Return the networks without regularization, each at its lowest validation cost."""
    epochs = 1 + np.asarray(none.fits.curves["validation"]["cost"]).argmin(1)
    params = none.fits.best_params
    return Choice(f"epoch {epochs.min()}–{epochs.max()}", none.fits, epochs, params, tested(params))


def network(hidden: int, dropout: float = 0.0) -> fnnet.Sequential:
    """Return the network; with and without dropout it has as many layers, so that the weights use the same keys."""
    between = fnnet.Dropout(dropout) if dropout else fnnet.identity
    return fnnet.sequential(fnnet.Flatten(), fnnet.Dense(hidden), fnnet.relu, between, fnnet.Dense(10))


def weights_of(params: Any) -> Any:
    """Return all weights without the biases, ``(seeds, weights)``."""
    weights = [np.asarray(leaf) for leaf in jax.tree.leaves(params) if is_weight(leaf[0])]
    return np.concatenate([w.reshape(len(w), -1) for w in weights], axis=1)


def row_of(choice: Choice, none: Choice, small: float) -> dict[str, str]:
    weights, seeds = weights_of(choice.params), np.arange(len(choice.epochs))
    costs = {which: np.asarray(c["cost"])[seeds, choice.epochs - 1] for which, c in choice.fits.curves.items()}
    accuracy, plain = 100 * choice.test["accuracy"], 100 * none.test["accuracy"]
    return {
        "strength": choice.strength or "–",
        "training cost": mean_and_deviation(costs["training"], 3),
        "validation cost": mean_and_deviation(costs["validation"], 2),
        "test cost": mean_and_deviation(choice.test["cost"], 2),
        "accuracy, %": mean_and_deviation(accuracy, 1),
        "above none": "–" if choice is none else mean_and_deviation(accuracy - plain, 1),
        "zeros": f"{(weights == 0).mean():.1%}",
        f"< {small:g}": f"{(np.abs(weights) < small).mean():.1%}",
    }


def mean_and_deviation(values: Any, digits: int) -> str:
    """Return the mean ± the standard deviation over the seeds."""
    values = np.asarray(values, np.float64)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=min(1, len(values) - 1)):.{digits}f}"


def table_of(rows: dict[str, dict[str, str]]) -> Table:
    """Return the columns that fit on a line of 80 letters; the summary has all columns."""
    left_out = ("training cost", "validation cost")
    table = Table("method", *(name for name in rows["none"] if name not in left_out), box=None)
    table.padding, table.pad_edge, table.columns[0].no_wrap = (0, 1, 0, 0), False, True
    for method, row in rows.items():
        table.add_row(method, *(text for name, text in row.items() if name not in left_out))
    return table
