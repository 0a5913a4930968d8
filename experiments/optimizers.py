"""Every optimizer on real digits from the same start, at its own tuned rate; and their paths on four surfaces.

Digits: a network 64-32-10 on scikit-learn's 1,797 handwritten digits. The whole training is one program, compiled once
for each optimizer with the rate as its argument and run at every rate of one grid; the rate with the lowest cost over the
training digits at the end is taken. L-BFGS and conjugate gradients take the whole set at every step and have line
searches instead of rates. Paths: Rosenbrock, Beale, a saddle and a quadratic of condition number 100, again at the best
rate of the grid, for all rates and surfaces in one program; Newton's method joins, damped and with the eigenvalues'
absolute values, so that it leaves saddles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.progress import track
from rich.table import Table

import fnnet
from experiments import data, tuning
from experiments.contenders import CONTENDERS, Contender
from experiments.results import Results, console
from experiments.surfaces import SURFACES, Surface, value
from experiments.tuning import Numbers
from fnnet import plots
from fnnet.types import Array, Params

REACHED = 1e-3  # above the lowest value of a surface


@dataclass(frozen=True)
class Config:
    hidden: int = 32
    """Neurons of the hidden layer."""
    epochs: int = 20
    """Passes over the training digits in batches."""
    batch_size: int = 32
    """Digits per update."""
    whole_batch_steps: int = 100
    """Updates of those that take the whole set at once."""
    lowest_rate: float = 1e-4
    """The grid's lowest learning rate."""
    highest_rate: float = 1e2
    """The grid's highest learning rate."""
    rates: int = 19
    """Rates of the grid, evenly spaced in their logarithm."""
    surface_steps: int = 300
    """Updates on the surfaces."""
    timings: int = 5
    """Times that training is repeated to be timed; the least counts."""
    seed: int = 0
    """Seed of the first parameters and of the order of the digits."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Learned(NamedTuple):
    """An optimizer's runs on the digits, and the best of them."""

    contender: Contender
    rates: Numbers  # (R,)
    final_costs: Numbers  # (R,)
    best: int
    steps: Numbers  # (E + 1,), updates made
    costs: Numbers  # (E + 1,), over all training digits
    seconds: Numbers  # (E + 1,), of training alone: its time, shared evenly among the epochs
    accuracy: float  # of the test digits at the end

    @property
    def rate(self) -> str:
        return shown_rate(self.contender, self.rates, self.best)


class Walked(NamedTuple):
    """An optimizer's best path on each surface of ``SURFACES``."""

    contender: Contender
    rates: list[str]
    paths: Numbers  # (surfaces, steps + 1, 2)
    excess: Numbers  # (surfaces, steps + 1), above the lowest value


def run(config: Config) -> None:
    results = Results("optimizers", config, config.runs)
    split = data.digits()
    rates = tuning.log_spaced(config.lowest_rate, config.highest_rate, config.rates)
    console.print(
        f"{len(split.train[0])} digits to learn, {len(split.test[0])} to test; 64-{config.hidden}-10; rates "
        f"{config.lowest_rate:g} to {config.highest_rate:g}, {config.rates} of them\n",
        highlight=False,
    )
    network = Network(config, split)
    learners = [contender for contender in CONTENDERS if contender.for_networks]
    learned = [network.learn(contender, rates) for contender in track(learners, "digits  ", console=console)]
    walked = [walk(contender, rates, config) for contender in track(CONTENDERS, "surfaces", console=console)]
    for one in learned:
        about = {"optimizer": one.contender.name, "rate": float(one.rates[one.best]), "accuracy": one.accuracy}
        results.record(**about, steps=one.steps.tolist(), costs=one.costs.tolist(), seconds=one.seconds.tolist())
    console.print(rich_table(DIGITS_COLUMNS, digits_rows(learned)))
    console.print(rich_table(surface_columns(), surface_rows(walked)))
    draw(results, learned, walked)
    results.summary(
        f"On the digits:\n\n{markdown_table(DIGITS_COLUMNS, digits_rows(learned))}\n\n{DIGITS_NOTE}\n\n"
        f"Updates until the surface is within {REACHED:g} of its lowest value for good (rate):\n\n"
        f"{markdown_table(surface_columns(), surface_rows(walked))}"
    )


class Network:
    """The network, its start and its digits: what every optimizer is given alike."""

    def __init__(self, config: Config, split: data.Split) -> None:
        self.config = config
        self.train: tuple[Array, Array] = tuple(map(jnp.asarray, split.train))
        self.key = jax.random.key(config.seed + 1)
        model = fnnet.sequential(fnnet.Flatten(), fnnet.Dense(config.hidden), fnnet.tanh, fnnet.Dense(10))
        self.cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
        self.params = model.init(jax.random.key(config.seed), self.train[0])
        self.on_train = tuning.along(self.cost, split.train)
        self.on_test = tuning.along(self.cost, split.test)

    def learn(self, contender: Contender, rates: Array) -> Learned:
        """Train at every rate, and once more at the best for the time that it takes."""
        epochs = self.config.whole_batch_steps if contender.whole_batch else self.config.epochs
        batch_size = len(self.train[0]) if contender.whole_batch else self.config.batch_size
        options: dict[str, Any] = {"batch_size": batch_size, "shuffle": not contender.whole_batch, "drop_last": True}

        def make(rate: Any) -> fnnet.Optimizer:
            return contender.make(rate, lambda params: self.cost(params, self.train))

        train = jax.jit(
            tuning.training(self.cost, make, self.params, self.train, key=self.key, epochs=epochs, **options)
        )
        rates = rates if contender.tuned else rates[:1]
        runs = [train(rate) for rate in rates]
        costs = [np.asarray(self.on_train(run.params)["cost"]) for run in runs]
        final_costs = np.array([each[-1] for each in costs])
        best = tuning.lowest(final_costs)
        done = np.linspace(0, 1, epochs + 1)
        return Learned(
            contender,
            np.asarray(rates),
            final_costs,
            best,
            steps=np.arange(epochs + 1) * (len(self.train[0]) // batch_size),
            costs=costs[best],
            seconds=done * least_seconds(train, rates[best], self.config.timings),
            accuracy=float(self.on_test(runs[best].params)["accuracy"][-1]),
        )


def least_seconds(train: Callable[[Array], tuning.Run], rate: Array, timings: int) -> float:
    """Of a training that is compiled already: the least of several timings, for other work on the machine only adds."""
    took = []
    for _ in range(timings):
        begin = time.perf_counter()
        jax.block_until_ready(train(rate))
        took.append(time.perf_counter() - begin)
    return min(took)


def walk(contender: Contender, rates: Array, config: Config) -> Walked:
    """The path at every rate on every surface, one program; of each surface the best.

    The point is a matrix of one row, so that Muon takes it: its step there is the normalized gradient.
    """
    starts = jnp.asarray([surface.start for surface in SURFACES], jnp.float32)

    def descend(index: Array, rate: Array) -> tuple[Array, Array]:
        def objective(params: Params) -> Array:
            return value(index, params["w"][0])

        optimizer = contender.make(rate, objective)
        params = {"w": starts[index][None]}

        def step(carry: tuple[Params, Any], _: None) -> tuple[tuple[Params, Any], tuple[Array, Array]]:
            params, state = carry
            height, grads = jax.value_and_grad(objective)(params)
            updates, state = optimizer.update(grads, state, params)
            return (fnnet.apply_updates(params, updates), state), (params["w"][0], height)

        return jax.lax.scan(step, (params, optimizer.init(params)), length=config.surface_steps + 1)[1]

    rates = rates if contender.tuned else rates[:1]
    every = jax.jit(jax.vmap(jax.vmap(descend, (None, 0)), (0, None)))
    points, heights = (np.asarray(array) for array in every(jnp.arange(len(SURFACES)), rates))
    excess = heights - np.array([surface.lowest for surface in SURFACES])[:, None, None]
    best = [quickest(of_surface) for of_surface in excess]
    surfaces = range(len(SURFACES))
    names = [shown_rate(contender, np.asarray(rates), i) for i in best]
    return Walked(contender, names, points[surfaces, best], excess[surfaces, best])


def quickest(excess: Numbers) -> int:
    """The run ``(R, steps + 1)`` that first stays below ``REACHED``; if none does, the lowest at the end."""
    reached = [steps_to_reach(run) for run in excess]
    times = [np.inf if steps is None else steps for steps in reached]
    return tuning.lowest(times if np.isfinite(times).any() else excess[:, -1])


def steps_to_reach(excess: Numbers) -> int | None:
    """Updates after which the excess stays at or below ``REACHED``; None if it does not."""
    above = np.flatnonzero(~(excess <= REACHED))
    steps = int(above[-1]) + 1 if len(above) else 0
    return steps if steps < len(excess) else None


def shown_rate(contender: Contender, rates: Numbers, best: int) -> str:
    """The rate, with a star if it is the lowest or the highest of the grid: a better one may lie beyond."""
    if not contender.tuned:
        return "line search"
    return f"{rates[best]:.2g}" + ("*" if best in (0, len(rates) - 1) else "")


DIGITS_COLUMNS = ("optimizer", "rate", "updates", "final cost", "test accuracy", "seconds")
DIGITS_NOTE = "Cost over all training digits; seconds of training alone, without compiling. * at the edge of the grid."


def digits_rows(learned: Sequence[Learned]) -> list[tuple[str, ...]]:
    return [
        (
            one.contender.name,
            one.rate,
            f"{one.steps[-1]}",
            f"{one.costs[-1]:.1e}",
            f"{one.accuracy:.3f}",
            f"{one.seconds[-1]:.3f}",
        )
        for one in learned
    ]


def surface_columns() -> tuple[str, ...]:
    return ("optimizer", *(surface.title for surface in SURFACES))


def surface_rows(walked: Sequence[Walked]) -> list[tuple[str, ...]]:
    return [(one.contender.name, *(reaching(one, i) for i in range(len(SURFACES)))) for one in walked]


def reaching(one: Walked, surface: int) -> str:
    steps = steps_to_reach(one.excess[surface])
    reached = f"not: {one.excess[surface][-1]:.1e}" if steps is None else f"{steps}"
    return f"{reached} ({one.rates[surface]})"


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    return table


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(results: Results, learned: Sequence[Learned], walked: Sequence[Walked]) -> None:
    """Cost by updates and by seconds, final cost by rate, and the paths on every surface, a panel for each family."""
    by_update = by_family({one.contender: (one.steps, one.costs) for one in learned})
    by_second = by_family({one.contender: (one.seconds[1:], one.costs[1:]) for one in learned})
    by_rate = by_family({one.contender: (one.rates, one.final_costs) for one in learned if one.contender.tuned})
    cost: dict[str, Any] = {"ylabel": "cost over the training digits", "yscale": "log", "ylim": (1e-5, 5)}
    results.figure("cost_by_update", plots.line_panels(by_update, xlabel="updates", **cost))
    results.figure("cost_by_second", plots.line_panels(by_second, xlabel="seconds of training", xscale="log", **cost))
    cost |= {"ylabel": "final cost over the training digits", "ylim": (1e-5, 30)}
    results.figure(
        "cost_by_rate", plots.line_panels(by_rate, xlabel="learning rate", xscale="log", markers=True, **cost)
    )
    for i, surface in enumerate(SURFACES):
        results.figure(f"paths_{surface.name}", paths_on(surface, walked, i))


def by_family(values: Mapping[Contender, Any]) -> dict[str, dict[str, Any]]:
    families: dict[str, dict[str, Any]] = {}
    for contender, each in values.items():
        families.setdefault(contender.family, {})[contender.name] = each
    return families


def paths_on(surface: Surface, walked: Sequence[Walked], place: int) -> Figure:
    x, y = np.linspace(*surface.x_range, 241), np.linspace(*surface.y_range, 241)
    heights = np.asarray(surface.function(*(jnp.asarray(a) for a in np.meshgrid(x, y)))) - surface.lowest
    paths = by_family({one.contender: one.paths[place] for one in walked})
    title = f"{surface.title}:  {surface.formula}"
    return plots.descent_paths(x, y, heights, paths, minima=surface.minima, title=title)
