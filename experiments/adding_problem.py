"""Show which recurrent cells, with which initial weights, solve the adding problem over 50, 200 and 400 steps.

Every step of a sequence has a number, uniform in [0, 1], and a mark, which is 1 at one step of the first half and at
one step of the second half, and 0 elsewhere. The target is the sum of the two marked numbers (Hochreiter and
Schmidhuber 1997, section 5.4; Le, Jaitly and Hinton 2015, section 4.1). The best constant is 1; its mean squared error
is the variance of the sum, 2 · 1/12 = 1/6, and a network that is not below it has learned nothing. A training is one
compiled program, which draws new sequences for every update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.progress import track

import fnnet
from experiments.cli import ExperimentError
from experiments.results import Results, console
from experiments.tables import TableRows, markdown_table, rich_table
from fnnet import initializers, optimizers, plots
from fnnet.layers.cells import Cell
from fnnet.types import Array, Batch, DType, Params, Shape

CONSTANT = 1 / 6  # mean squared error of the best constant
LEARNED = 0.01
SMOOTHED = 50  # a point of a curve is the mean over this many updates

Name = Literal["rnn_glorot", "rnn_orthogonal", "irnn", "gru", "lstm_0", "lstm_1", "lstm_chrono"]
LABELS: dict[Name, str] = {
    "rnn_glorot": "RNN, tanh, Glorot",
    "rnn_orthogonal": "RNN, tanh, orthogonal",
    "irnn": "RNN, ReLU, identity",
    "gru": "GRU",
    "lstm_0": "LSTM, forget bias 0",
    "lstm_1": "LSTM, forget bias 1",
    "lstm_chrono": "LSTM, biases by T",
}


def nearly_zero(key: Array, shape: Shape, dtype: DType = jnp.float32) -> Array:
    return initializers.normal(key, shape, dtype, stddev=0.001)


def cell_of(name: Name, features: int) -> Cell:
    """Return the cell of that name; weights that are not given here have the cell's default initializer.

    ``"irnn"`` is the RNN of Le, Jaitly and Hinton 2015, section 3.
    """
    if name == "rnn_glorot":
        return fnnet.RNNCell(features, w_h_init=initializers.glorot_uniform)
    if name == "rnn_orthogonal":
        return fnnet.RNNCell(features)
    if name == "irnn":
        return fnnet.RNNCell(features, fnnet.relu, w_x_init=nearly_zero, w_h_init=initializers.identity)
    if name == "gru":
        return fnnet.GRUCell(features)
    return fnnet.LSTMCell(features, 0.0 if name == "lstm_0" else 1.0)


def chrono(key: Array, params: Params, length: int) -> Params:
    """Return an LSTM's parameters with gate biases that give every neuron its own time scale ``τ`` of forgetting.

    This is the chrono initialization of Tallec and Ollivier 2018, "Can recurrent neural networks warp time?":
    ``b_f = log τ`` with ``τ`` uniform in [1, T − 1], and ``b_i = −b_f``, which balances input and forgetting.
    """
    b = params["b"]
    forget = jnp.log(jax.random.uniform(key, (len(b) // 4,), b.dtype, 1, max(length - 1, 2)))
    return params | {"b": b.at[: 2 * len(forget)].set(jnp.concatenate([-forget, forget]))}


@dataclass(frozen=True)
class Config:
    lengths: tuple[int, ...] = (50, 200, 400)
    """Lengths of the sequences in steps; each length is a task."""
    cells: tuple[Name, ...] = get_args(Name)
    """Cells that are trained."""
    features: int = 32
    """Number of neurons of the state."""
    steps: int = 1500
    """Number of updates."""
    batch_size: int = 32
    """Sequences per update."""
    learning_rate: float = 1e-2
    """Adam's learning rate at the first update; it falls to 0 along half a cosine."""
    clip: float = 1.0
    """Largest norm of a gradient; a longer gradient is scaled down to it."""
    seeds: int = 1
    """Trainings of each cell, with different initial parameters and sequences."""
    test_size: int = 2000
    """Number of test sequences."""
    workers: int = 2
    """Number of trainings that run at the same time."""
    seed: int = 0
    """Seed of everything random."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Learned(NamedTuple):
    """The result of one training."""

    cell: Name
    length: int
    seed: int
    costs: np.ndarray[Any, Any]  # (steps,): mean squared error of each batch before its update
    error: float  # mean squared error on the test sequences after the last update


def run(config: Config) -> None:
    check(config)
    results = Results("adding_problem", config, config.runs)
    console.print(
        f"{config.steps} updates with {config.batch_size} new sequences each; {config.features} neurons; the mean "
        f"squared error of the best constant is 1/6 = {CONSTANT:.4f}\n",
        highlight=False,
    )
    # The longest tasks start first, so that all workers finish at about the same time.
    tasks = sorted(product(config.cells, config.lengths, range(config.seeds)), key=lambda task: -task[1])
    with ThreadPoolExecutor(config.workers) as pool:
        learning = pool.map(lambda task: learn(config, *task), tasks)
        learned = list(track(learning, "training", len(tasks), console=console))
    learned.sort(key=lambda one: (config.lengths.index(one.length), config.cells.index(one.cell), one.seed))
    for one in learned:
        values = {"cell": one.cell, "length": one.length, "seed": one.seed, "error": one.error}
        results.record(**values, learned_at=learned_at(one.costs), costs=smoothed(one.costs).tolist())
    console.print(rich_table(*table_of(learned)))
    results.figure("curves", curves(learned))
    results.summary(
        f"{markdown_table(*table_of(learned))}\n\nMean squared error on {config.test_size} new sequences, and the "
        f"number of updates until the mean error of {SMOOTHED} batches was below {LEARNED}. The error of the best "
        f"constant is 1/6."
    )


def check(config: Config) -> None:
    for name in ("features", "steps", "batch_size", "seeds", "test_size", "workers"):
        if getattr(config, name) < 1:
            raise ExperimentError(f"--{name.replace('_', '-')} is {getattr(config, name)}; expected at least 1")
    if not config.lengths or min(config.lengths) < 2:
        raise ExperimentError(
            f"--lengths is {config.lengths}; expected at least 2 steps each, one for each of the two numbers"
        )
    if not config.cells:
        raise ExperimentError(f"--cells is empty; expected at least one of {', '.join(get_args(Name))}")


def sequences(key: Array, examples: int, length: int) -> Batch:
    """Return ``x (N, T, 2)``, a number and a mark at every step, and the sums of the marked numbers ``(N, 1)``."""
    number_key, first_key, second_key = jax.random.split(key, 3)
    numbers, half = jax.random.uniform(number_key, (examples, length)), length // 2
    first = jax.random.randint(first_key, (examples,), 0, half)
    second = jax.random.randint(second_key, (examples,), half, length)
    marks = jax.nn.one_hot(first, length, dtype=numbers.dtype) + jax.nn.one_hot(second, length, dtype=numbers.dtype)
    return jnp.stack([numbers, marks], -1), (numbers * marks).sum(-1, keepdims=True)


def learn(config: Config, cell: Name, length: int, seed: int) -> Learned:
    key = jax.random.fold_in(jax.random.key(config.seed), seed)
    costs, error = jax.jit(training(config, cell, length))(key)
    return Learned(cell, length, seed, np.asarray(costs), float(error))


def training(config: Config, name: Name, length: int) -> Callable[[Array], tuple[Array, Array]]:
    """Return ``train(key) -> (costs (steps,), error)``, which initializes, trains and tests one network."""
    model = fnnet.sequential(fnnet.Recurrent(cell_of(name, config.features), return_sequences=False), fnnet.Dense(1))
    cost = fnnet.Cost(model, fnnet.losses.squared_error)
    rate = fnnet.schedules.cosine(config.learning_rate, config.steps)
    optimizer = fnnet.chain(optimizers.clip_by_global_norm(config.clip), optimizers.adam(rate))
    step = fnnet.train_step(cost, optimizer, fnnet.backprop.value_and_grad)

    def update(state: fnnet.TrainState, _: None) -> tuple[fnnet.TrainState, Array]:
        state, metrics = step(state, sequences(state.order_key(), config.batch_size, length))
        return state, metrics["cost"]

    def train(key: Array) -> tuple[Array, Array]:
        init_key, bias_key, train_key, test_key = jax.random.split(key, 4)
        recurrent, dense = model.init(init_key, jax.ShapeDtypeStruct((config.batch_size, length, 2), jnp.float32))
        if name == "lstm_chrono":
            recurrent = chrono(bias_key, recurrent, length)
        state = fnnet.TrainState.create((recurrent, dense), optimizer, train_key)
        state, costs = jax.lax.scan(update, state, length=config.steps)
        test = sequences(test_key, config.test_size, length)
        return costs, fnnet.evaluate(cost, state.params, test)["cost"]

    return train


def smoothed(costs: Any) -> np.ndarray[Any, Any]:
    """Return the means of consecutive groups of ``SMOOTHED`` costs; the last group may be smaller."""
    return np.array([np.mean(costs[i : i + SMOOTHED]) for i in range(0, len(costs), SMOOTHED)])


def learned_at(costs: Any) -> int | None:
    """Return the number of updates until the smoothed error was below ``LEARNED``, or None if it never was."""
    (below,) = np.nonzero(smoothed(costs) < LEARNED)
    return min(len(costs), (int(below[0]) + 1) * SMOOTHED) if len(below) else None


def table_of(learned: Sequence[Learned]) -> TableRows:
    """Return a row for each cell, with the test error and the updates to learn each length.

    The numbers of several seeds are separated by commas.
    """
    lengths = list(dict.fromkeys(one.length for one in learned))
    rows = []
    for cell in dict.fromkeys(one.cell for one in learned):
        row = [LABELS[cell]]
        for length in lengths:
            ones = [one for one in learned if (one.cell, one.length) == (cell, length)]
            row.append(", ".join(f"{one.error:.4f}" if math.isfinite(one.error) else "NaN" for one in ones))
            row.append(", ".join(str(learned_at(one.costs) or "–") for one in ones))
        rows.append(row)
    return ["cell", *(text for length in lengths for text in (f"T = {length}", "updates"))], rows


def curves(learned: Sequence[Learned]) -> Figure:
    """Draw the smoothed error by updates on a log scale, with a panel for each length and a line for each training."""
    lengths = list(dict.fromkeys(one.length for one in learned))
    names = list(dict.fromkeys(one.cell for one in learned))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, len(lengths), sharey=True, squeeze=False)[0]
    for ax, length in zip(axes, lengths, strict=True):
        for one in learned:
            if one.length == length:
                points = smoothed(one.costs)
                updates = np.minimum(np.arange(1, len(points) + 1) * SMOOTHED, len(one.costs))
                look: dict[str, Any] = plots.style(names.index(one.cell))
                label = LABELS[one.cell] if one.seed == 0 else None
                ax.plot(updates, points, **look, label=label)
        ax.axhline(CONSTANT, color="0.3", linewidth=1, zorder=1, label="always 1: 1/6")
        # The limit cuts off the peaks of exploding gradients.
        ax.set(title=f"T = {length}", xlabel="updates", yscale="log", ylim=(None, 1))
        plots.tidy(ax)
    axes[0].set_ylabel("mean squared error")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure
