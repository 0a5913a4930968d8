"""Sharpness during gradient descent: it grows until 2 / η, and stays there.

Whole-batch gradient descent trains two networks of tanh on the half squared error, each at several rates η: 64-24-24-10
on 128 digits, and 1-100-100-1 on 20 points of the Chebyshev polynomial of degree 5. The sharpness λ_max, the largest
eigenvalue of the Hessian, is measured on the way. On a quadratic, gradient descent diverges where η λ_max / 2 is above
1. A third panel does the same for other optimizers, with the limits of `fnnet.inspect.curvature.stability_limits`.

The command exits with status 1 unless η λ_max / 2 averages within --tolerance of 1 in the last two thirds of the steps
at the highest rate on the digits and stays below 0.9 at the others; λ_max is within 1 % of 2 / η, on the average over
the second half of the steps, on the polynomial; and the other optimizers are within --tolerance of their limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import fnnet
from experiments import data
from experiments.results import Results, console
from experiments.tables import markdown_table, rich_table
from experiments.tuning import Numbers
from fnnet import optimizers, plots
from fnnet.initializers import lecun_normal, uniform
from fnnet.inspect import curvature
from fnnet.optimizers import Optimizer
from fnnet.plots.look import legend_above
from fnnet.types import Array, Batch, Scalar

RATES = {"1/4": 1 / 4, "1/6": 1 / 6, "1/10": 1 / 10, "1/15": 1 / 15}
POLYNOMIAL_RATES = {"1/5": 1 / 5, "1/10": 1 / 10}
OTHERS: dict[str, tuple[Callable[[Scalar], Optimizer], float]] = {
    "heavy ball, 0.6": (lambda rate: optimizers.momentum(rate, 0.9, averaged=False), 0.6),
    "Nesterov, 0.2": (optimizers.nesterov, 0.2),
    "Adam, 0.003": (optimizers.adam, 0.003),
}
COLUMNS = ("on", "optimizer", "first", "average", "highest", "final cost")


@dataclass(frozen=True)
class Config:
    steps: int = 3000
    """Updates on the digits."""
    polynomial_steps: int = 10_000
    """Updates on the polynomial."""
    looks: int = 60
    """Number of measurements of the sharpness, evenly spaced over the updates."""
    examples: int = 128
    """Number of digits."""
    tolerance: float = 0.05
    """Largest distance of the average of η λ_max / 2 from 1."""
    seed: int = 0
    """Seed of the first parameters."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Course(NamedTuple):
    """A run of training at ``L`` looks."""

    steps: Numbers  # (L,)
    ratios: Numbers  # (L,), the sharpness divided by the limit of the optimizer
    costs: Numbers  # (L,)
    limit: float  # of the optimizer, in units of the (preconditioned) Hessian


def run(config: Config) -> int:
    results = Results("edge_of_stability", config, config.runs)
    digits, points = Digits(config), Polynomial(config)
    console.print("Gradient descent on the digits and on the polynomial, and other optimizers on the digits ...")
    on_digits = digits.train(optimizers.sgd, {f"η = {name}": rate for name, rate in RATES.items()})
    on_points = points.train(optimizers.sgd, {f"η = {name}": rate for name, rate in POLYNOMIAL_RATES.items()})
    others: dict[str, Course] = {}
    for name, (make, rate) in OTHERS.items():
        others |= digits.train(make, {name: rate})

    first = average(next(iter(on_digits.values())), 1 / 3)
    highest = max(course.ratios.max() for course in list(on_digits.values())[1:])
    ends = {name: average(course, 1 / 2) * course.limit for name, course in on_points.items()}
    edges = {name: average(course, 2 / 3) for name, course in others.items()}
    verdicts = {
        f"η λ_max / 2 averages {first:.3f} at η = 1/4 on the digits": abs(first - 1) <= config.tolerance,
        f"at the lower rates it stays below 0.9: the highest is {highest:.3f}": highest < 0.9,
        **{
            f"λ_max averages {end:.2f} at {name} on the polynomial, where 2/η = {on_points[name].limit:.3g}": (
                abs(end / on_points[name].limit - 1) <= 0.01
            )
            for name, end in ends.items()
        },
        **{
            f"{name}: sharpness / limit averages {edge:.3f}": abs(edge - 1) <= config.tolerance
            for name, edge in edges.items()
        },
    }
    groups = {"digits": on_digits, "polynomial": on_points, "digits, others": others}
    rows = [row_of(group, name, course) for group, courses in groups.items() for name, course in courses.items()]
    for group, courses in groups.items():
        for name, course in courses.items():
            for step, ratio, cost in zip(course.steps, course.ratios, course.costs, strict=True):
                results.record(on=group, optimizer=name, step=int(step), ratio=float(ratio), cost=float(cost))
    console.print(rich_table(COLUMNS, rows, title="sharpness / limit"))
    said = "\n".join(f"- {sentence}{'' if holds else ': THIS SHOULD NOT BE'}" for sentence, holds in verdicts.items())
    console.print(said, highlight=False)
    results.figure("edge_of_stability", picture(on_digits, on_points, others))
    results.summary(f"{said}\n\n{markdown_table(COLUMNS, rows)}")
    return 0 if all(verdicts.values()) else 1


def half_squared_error(prediction: Array, target: Array) -> Array:
    """Return ``½ Σ_k (ŷ_k − y_k)²``, the sum over the outputs, with which η compares to that of the literature."""
    return 0.5 * jnp.square(prediction - target).sum(-1)


class Problem:
    """A network, its data and its first parameters."""

    def __init__(self, layers: tuple[Any, ...], batch: Batch, steps: int, config: Config) -> None:
        self.cost = fnnet.Cost(fnnet.sequential(*layers), half_squared_error)
        self.batch, self.steps, self.looks = batch, steps, config.looks
        self.start = self.cost.model.init(jax.random.key(config.seed), batch[0])

    def train(self, make: Callable[[Scalar], Optimizer], rates: Mapping[str, float]) -> dict[str, Course]:
        """Return the courses of whole-batch training at several rates, in one program."""
        program = jax.jit(jax.vmap(lambda rate: self.course(make(rate))))
        ratios, costs, limits = map(np.asarray, program(jnp.array(list(rates.values()))))
        looks = self.steps // self.looks * np.arange(1, self.looks + 1)
        return {name: Course(looks, ratios[i], costs[i], float(limits[i])) for i, name in enumerate(rates)}

    def course(self, optimizer: Optimizer) -> tuple[Array, Array, Array]:
        """Return the ratios of sharpness and limit, and the costs, at all looks, and the limit."""
        every = self.steps // self.looks
        step = fnnet.train_step(self.cost, optimizer)
        product = partial(curvature.hvp, self.cost)

        def update(state: fnnet.TrainState, _: None) -> tuple[fnnet.TrainState, None]:
            return step(state, self.batch)[0], None

        def stretch(state: fnnet.TrainState, _: None) -> tuple[fnnet.TrainState, tuple[Array, Array]]:
            state, _ = jax.lax.scan(update, state, length=every)
            limits = curvature.stability_limits(optimizer, state.params, state.opt_state)
            scaled = curvature.scaled_product(partial(product, state.params, self.batch), limits)
            key = jax.random.fold_in(jax.random.key(1), state.step)
            ratio = curvature.eigenvalues(scaled, state.params, key=key, steps=16).largest.values[0]
            return state, (ratio, self.cost(state.params, self.batch))

        state = fnnet.TrainState.create(self.start, optimizer, jax.random.key(0))
        _, (ratios, costs) = jax.lax.scan(stretch, state, length=self.looks)
        return ratios, costs, curvature.stability_limit(optimizer)


class Digits(Problem):
    """The first training digits, centred, with one-hot targets."""

    def __init__(self, config: Config) -> None:
        images, labels = data.digits().train
        x = images[: config.examples].reshape(config.examples, -1)
        batch = (jnp.asarray(x - x.mean(0)), jax.nn.one_hot(labels[: config.examples], 10))
        dense = partial(fnnet.Dense, w_init=lecun_normal)
        super().__init__((dense(24), fnnet.tanh, dense(24), fnnet.tanh, dense(10)), batch, config.steps, config)


class Polynomial(Problem):
    """The Chebyshev polynomial of degree 5 at 20 evenly spaced points (Cohen et al. 2021, appendix)."""

    def __init__(self, config: Config) -> None:
        x = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]
        batch = (jnp.asarray(x), jnp.asarray(np.polynomial.chebyshev.chebval(x, [0, 0, 0, 0, 0, 1]), jnp.float32))

        def dense(inputs: int, outputs: int) -> fnnet.Dense:
            within = fnnet.bind(uniform, limit=inputs**-0.5)
            return fnnet.Dense(outputs, w_init=within, b_init=within)

        layers = (dense(1, 100), fnnet.tanh, dense(100, 100), fnnet.tanh, dense(100, 1))
        super().__init__(layers, batch, config.polynomial_steps, config)


def average(course: Course, start: float) -> float:
    """Return the mean ratio from this fraction of the steps on."""
    return float(course.ratios[course.steps >= start * course.steps[-1]].mean())


def row_of(group: str, name: str, course: Course) -> tuple[str, ...]:
    numbers = (course.ratios[0], average(course, 1 / 3), course.ratios.max())
    return (group, name, *(f"{number:.3f}" for number in numbers), f"{course.costs[-1]:.2g}")


def picture(on_digits: Mapping[str, Course], on_points: Mapping[str, Course], others: Mapping[str, Course]) -> Figure:
    """Return the sharpness by step, as a fraction of the limit, and on the polynomial as it is."""
    figure = Figure(figsize=(plots.WIDTH, 3.7), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    ratio: Callable[[Course], Numbers] = lambda course: course.ratios  # noqa: E731
    sharpness: Callable[[Course], Numbers] = lambda course: course.ratios * course.limit  # noqa: E731
    draw(left, on_digits, ratio, "η λ_max / 2", "128 digits")
    draw(middle, on_points, sharpness, "λ_max", "20 points")
    draw(right, others, ratio, "sharpness / limit", "128 digits, others and their η")
    for ax in (left, right):
        ax.axhline(1, color="black", linewidth=1, zorder=2)
        ax.set_ylim(0, 1.3)
    for course in on_points.values():
        middle.axhline(course.limit, color="black", linewidth=1, zorder=2)
        middle.annotate(
            f"2/η = {course.limit:.0f}", (1, course.limit), xycoords=("axes fraction", "data"), xytext=(-2, 7),
            textcoords="offset points", ha="right", fontsize=plots.SMALL,
        )  # fmt: skip
    middle.set_ylim(0, 30)
    return figure


def draw(ax: Any, courses: Mapping[str, Course], number: Callable[[Course], Numbers], label: str, title: str) -> None:
    for i, (name, course) in enumerate(courses.items()):
        ax.plot(course.steps, number(course), label=name, **plots.style(i))
    ax.set(xlabel="step", ylabel=label)
    plots.tidy(ax)
    legend_above(ax, title)
