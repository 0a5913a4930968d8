"""Every optimizer on real digits from the same start, at its own tuned rate, and on four surfaces.

Digits: the network 64-32-10 is trained on scikit-learn's 1,797 handwritten digits. The whole training is one program of
the rate, which is compiled once for each optimizer and run at every rate of a grid; the rate with the lowest final cost
over the training digits counts. L-BFGS and conjugate gradients take the whole set in every update, and have a line
search instead of a rate.

Surfaces: the functions of Rosenbrock and Beale, a saddle, and a quadratic of condition number 100, again at the best
rate of the grid, with all rates and surfaces in one program. Newton's method takes part here, with the absolute values
of the eigenvalues and a little damping, so that it leaves saddles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track

import fnnet
from experiments import data, tuning
from experiments.contenders import CONTENDERS, Contender, by_family
from experiments.results import Results, console
from experiments.surfaces import SURFACES
from experiments.tables import TableRows, markdown_table, rich_table
from experiments.tuning import Numbers
from experiments.walks import REACHED, STAYED, Walked, paths_on, surface_table, walk
from fnnet import plots
from fnnet.types import Array

Program: TypeAlias = Callable[[Array], tuning.Run]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Config:
    hidden: int = 32
    """Neurons of the hidden layer."""
    epochs: int = 20
    """Passes over the training digits in batches."""
    batch_size: int = 32
    """Digits per update."""
    whole_batch_updates: int = 100
    """Updates of the optimizers that take the whole set in every update."""
    lowest_rate: float = 1e-4
    """Lowest learning rate of the grid."""
    highest_rate: float = 1e2
    """Highest learning rate of the grid."""
    rates: int = 19
    """Number of rates of the grid, evenly spaced in their logarithm."""
    surface_steps: int = 300
    """Updates on the surfaces."""
    timings: int = 5
    """Number of timings of a training, of which the shortest counts."""
    seed: int = 0
    """Seed of the first parameters and of the order of the digits."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Learned(NamedTuple):
    """The training of an optimizer at every rate; the curves are those of the best rate."""

    contender: Contender
    rates: Numbers  # (R,)
    final_costs: Numbers  # (R,)
    best: int
    updates: Numbers  # (E + 1,), the number of updates made
    costs: Numbers  # (E + 1,), over all training digits
    seconds: Numbers  # (E + 1,), of training alone: its whole time, divided evenly among the epochs
    accuracy: float  # on the test digits, at the end


def run(config: Config) -> None:
    results = Results("optimizers", config, config.runs)
    split = data.digits()
    rates = tuning.log_spaced(config.lowest_rate, config.highest_rate, config.rates)
    console.print(
        f"{len(split.train[0])} training digits, {len(split.test[0])} test digits; 64-{config.hidden}-10; "
        f"{config.rates} rates from {config.lowest_rate:g} to {config.highest_rate:g}\n",
        highlight=False,
    )
    task = Task(config, split)
    learners = [contender for contender in CONTENDERS if contender.for_networks]
    with ThreadPoolExecutor() as pool:  # XLA compiles outside of Python's lock
        programs = watched("compiling", pool.map(task.compiled, learners), len(learners))
        walking = pool.map(lambda contender: walk(contender, rates, config.surface_steps), CONTENDERS)
        walked = watched("surfaces", walking, len(CONTENDERS))
    learning = (task.learn(*pair, rates) for pair in zip(learners, programs, strict=True))
    learned = watched("digits", learning, len(learners))
    for one in learned:
        numbers = {"updates": one.updates.tolist(), "costs": one.costs.tolist(), "seconds": one.seconds.tolist()}
        results.record(optimizer=one.contender.name, rate=one.rates[one.best], accuracy=one.accuracy, **numbers)
    console.print(rich_table(*digits_table(learned)))
    console.print(rich_table(*surface_table(walked), title=SURFACES_TITLE))
    draw(results, learned, walked)
    results.summary(
        f"{markdown_table(*digits_table(learned))}\n\n{DIGITS_NOTE}\n\n"
        f"{SURFACES_TITLE}:\n\n{markdown_table(*surface_table(walked))}"
    )


class Task:
    """The network, its first parameters and its digits, which are the same for every optimizer."""

    def __init__(self, config: Config, split: data.Split) -> None:
        self.config = config
        self.train = jnp.asarray(split.train[0]), jnp.asarray(split.train[1])
        self.key = jax.random.key(config.seed + 1)
        model = fnnet.sequential(fnnet.Flatten(), fnnet.Dense(config.hidden), fnnet.tanh, fnnet.Dense(10))
        self.cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
        self.params = model.init(jax.random.key(config.seed), self.train[0])
        self.on_train = tuning.along(self.cost, split.train)
        self.on_test = tuning.along(self.cost, split.test)

    def epochs_and_batch_size(self, contender: Contender) -> tuple[int, int]:
        if contender.whole_batch:
            return self.config.whole_batch_updates, len(self.train[0])
        return self.config.epochs, self.config.batch_size

    def compiled(self, contender: Contender) -> Program:
        """Return the whole training, compiled as a function of the learning rate."""
        epochs, batch_size = self.epochs_and_batch_size(contender)
        options: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "drop_last": True}

        def make(rate: Any) -> fnnet.Optimizer:
            return contender.make(rate, lambda params: self.cost(params, self.train))

        train = tuning.training(self.cost, make, self.params, self.train, key=self.key, **options)
        return jax.jit(train).lower(jnp.float32(1)).compile()

    def learn(self, contender: Contender, train: Program, rates: Array) -> Learned:
        """Train at every rate, and again at the best rate to measure the time."""
        epochs, batch_size = self.epochs_and_batch_size(contender)
        rates = rates if contender.tuned else rates[:1]
        runs = [train(rate) for rate in rates]
        costs = [np.asarray(self.on_train(run.params)["cost"]) for run in runs]
        final_costs = np.array([each[-1] for each in costs])
        best = tuning.lowest(final_costs)
        return Learned(
            contender,
            np.asarray(rates),
            final_costs,
            best,
            updates=np.arange(epochs + 1) * (len(self.train[0]) // batch_size),
            costs=costs[best],
            seconds=np.linspace(0, least_seconds(train, rates[best], self.config.timings), epochs + 1),
            accuracy=float(self.on_test(runs[best].params)["accuracy"][-1]),
        )


def least_seconds(train: Program, rate: Array, timings: int) -> float:
    """Return the shortest time of a compiled training, because other work on the machine only adds to it."""
    took = []
    for _ in range(timings):
        begin = time.perf_counter()
        jax.block_until_ready(train(rate))
        took.append(time.perf_counter() - begin)
    return min(took)


def watched(label: str, results: Iterable[Result], total: int) -> list[Result]:
    """Return all results, and show a progress bar while waiting for them."""
    return list(track(results, f"{label:10}", total=total, console=console))


DIGITS_NOTE = (
    "Cost over all training digits; seconds of training, without compiling. * marks a rate at the edge of the grid."
)
SURFACES_TITLE = (
    f"Updates until the value stays within {REACHED:g} of the lowest ({STAYED} updates at least), "
    f"or the final distance; in brackets the rate"
)


def digits_table(learned: Sequence[Learned]) -> TableRows:
    rows = [
        (
            one.contender.name,
            one.contender.shown_rate(one.rates, one.best),
            f"{one.updates[-1]}",
            f"{one.costs[-1]:.1e}",
            f"{one.accuracy:.3f}",
            f"{one.seconds[-1]:.3f}",
        )
        for one in learned
    ]
    return ("optimizer", "rate", "updates", "final cost", "test accuracy", "seconds"), rows


def draw(results: Results, learned: Sequence[Learned], walked: Sequence[Walked]) -> None:
    """Draw the cost by updates and by seconds, the final cost by rate, and the paths, with a panel for each family."""
    by_update = by_family({one.contender: (one.updates, one.costs) for one in learned})
    by_second = by_family({one.contender: (one.seconds[1:], one.costs[1:]) for one in learned})
    by_rate = by_family({one.contender: (one.rates, one.final_costs) for one in learned if one.contender.tuned})
    look: dict[str, Any] = {"ylabel": "cost over the training digits", "yscale": "log", "ylim": (1e-5, 5)}
    results.figure("cost_by_update", plots.line_panels(by_update, xlabel="updates", **look))
    results.figure("cost_by_second", plots.line_panels(by_second, xlabel="seconds of training", xscale="log", **look))
    look |= {"ylabel": "final cost over the training digits", "ylim": (1e-5, 30), "markers": True}
    results.figure("cost_by_rate", plots.line_panels(by_rate, xlabel="learning rate", xscale="log", **look))
    for i, surface in enumerate(SURFACES):
        paths = by_family({one.contender: one.paths[i] for one in walked})
        results.figure(f"paths_{surface.name}", paths_on(surface, paths))
