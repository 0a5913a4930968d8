"""What the scale of inputs, normalization and initialization do to the eigenvalues, and so to the number of steps.

A linear model of scikit-learn's diabetes data is trained by gradient descent on raw, centred, standardized and whitened
features. The number of steps until the excess cost has fallen by --factor is predicted twice: as a bound from the
condition number κ alone, and from all eigenvalues with the error along each eigenvector.

Networks 64-32-10 learn 64 digits from inputs of different scales, with and without normalization, from weights of
different scales. The prediction is that of the tangent model: the eigenvalues of ``J Jᵀ / N`` at the start, which are
those of the generalized Gauss-Newton matrix, and the first residuals along its eigenvectors. Every network is trained
with the rate 1 / λ_max until its cost has fallen by --network-factor.

The command exits with status 1 if a measured number of steps of the linear model differs from the prediction by more
than 1 or is above the bound, or if the rank correlation of predicted and measured steps of the networks is below 0.9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

import fnnet
from experiments import data
from experiments.results import Results, console
from experiments.tables import markdown_table, rich_table
from experiments.tuning import Numbers
from fnnet import plots
from fnnet.initializers import lecun_normal
from fnnet.inspect.curvature import eigenvalues, ggn_vp
from fnnet.paths import is_weight, map_named
from fnnet.types import Array, Params, Scalar

COLUMNS = ("features", "κ", "bound from κ", "predicted", "measured")
NETWORK_COLUMNS = ("inputs", "normalization", "weights ×", "λ_max", "λ_max / median", "predicted", "measured")


@dataclass(frozen=True)
class Config:
    factor: float = 0.1
    """Part of the excess cost of the linear model that is left at the end."""
    network_factor: float = 0.1
    """Part of the cost of a network that is left at the end."""
    most_steps: int = 5_000
    """Largest number of updates of a network."""
    examples: int = 64
    """Number of digits."""
    seed: int = 0
    """Seed of the first weights."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Steps(NamedTuple):
    """The number of steps that were predicted and measured; infinite if there were more than allowed."""

    name: tuple[str, ...]
    numbers: tuple[float, ...]  # what the eigenvalues are like
    predicted: float
    measured: float


def run(config: Config) -> int:
    results = Results("conditioning", config, config.runs)
    linear = [linear_model(name, x, config) for name, x in features().items()]
    networks = [
        network(inputs, normalization, scale, config)
        for inputs in INPUTS
        for normalization in NORMALIZATIONS
        for scale in SCALES
    ]
    exact = all(
        abs(each.predicted - each.measured) <= 1 and each.measured <= math.ceil(each.numbers[1]) for each in linear
    )
    agreement = rank_correlation([each.predicted for each in networks], [each.measured for each in networks])
    for each in (*linear, *networks):
        results.record(name=each.name, numbers=each.numbers, predicted=each.predicted, measured=each.measured)
    rows, network_rows = [row_of(each) for each in linear], [row_of(each) for each in networks]
    said = (
        f"Linear model: measured steps are {'as predicted' if exact else 'NOT AS PREDICTED'}. Networks: rank "
        f"correlation {agreement:.2f} of predicted and measured steps{'' if agreement >= 0.9 else ', TOO LOW'}."
    )
    console.print(rich_table(COLUMNS, rows, title="linear model"))
    console.print(rich_table(NETWORK_COLUMNS, network_rows, title="networks"))
    console.print(said, highlight=False)
    results.figure("conditioning", picture(linear, networks))
    results.summary(f"{said}\n\n{markdown_table(COLUMNS, rows)}\n\n{markdown_table(NETWORK_COLUMNS, network_rows)}")
    return 0 if exact and agreement >= 0.9 else 1


def features() -> dict[str, Numbers]:
    """Return the ten features of 442 patients, with a constant, in four forms."""
    from sklearn.datasets import load_diabetes

    raw = load_diabetes(scaled=False).data
    centred = raw - raw.mean(0)
    u, _, _ = np.linalg.svd(centred, full_matrices=False)
    forms = {"raw": raw, "centred": centred, "standardized": centred / centred.std(0), "whitened": u * len(u) ** 0.5}
    return {name: np.concatenate([np.ones((len(raw), 1)), x], 1) for name, x in forms.items()}


def linear_model(name: str, x: Numbers, config: Config) -> Steps:
    """Return the steps that gradient descent needs with the rate ``2 / (λ_min + λ_max)``.

    On ``½ mean (x θ − y)²`` with the eigenvalues ``λ_i`` and the error ``c_i`` along each eigenvector at the start, the
    excess cost after ``t`` steps is ``½ Σ λ_i c_i² (1 − η λ_i)^2t``, which is at most ``((κ − 1) / (κ + 1))^2t`` times
    the first.
    """
    from sklearn.datasets import load_diabetes

    target = load_diabetes().target
    y = (target - target.mean()) / target.std()
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    error = vectors.T @ best
    rate, condition = 2 / (values[0] + values[-1]), values[-1] / values[0]
    bound = math.log(config.factor) / (2 * math.log((condition - 1) / (condition + 1))) if condition > 1.001 else 1.0
    shares = values * error**2 / (values * error**2).sum()

    def left(t: float) -> float:
        return float((shares * np.abs(1 - rate * values) ** (2 * t)).sum())

    predicted = first_step(left, config.factor)

    with jax.enable_x64(True):
        a, c = jnp.asarray(x.T @ x / len(x)), jnp.asarray(x.T @ y / len(x))

        def step(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            theta, t = carry
            return theta - rate * (a @ theta - c), t + 1

        def excess(theta: Array) -> Array:
            return 0.5 * (theta - best) @ a @ (theta - best)

        start = jnp.zeros(x.shape[1]), jnp.zeros((), jnp.int64)
        goal, most = config.factor * excess(start[0]), int(2 * predicted + 10)
        _, measured = jax.lax.while_loop(lambda carry: (excess(carry[0]) > goal) & (carry[1] < most), step, start)
    return Steps((name,), (condition, bound), predicted, float(measured))


def first_step(left: Callable[[float], float], goal: float) -> float:
    """Return the first whole number ``t`` with ``left(t) ≤ goal``, for a function that falls."""
    high = 1
    while left(high) > goal:
        high *= 2
        if high > 1e12:
            return math.inf
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if left(middle) <= goal else (middle, high)
    return float(high)


INPUTS: dict[str, Callable[[Numbers], Numbers]] = {
    "0 to 1": lambda x: x,
    "centred": lambda x: x - x.mean(0),
    "standardized": lambda x: (x - x.mean(0)) / np.maximum(x.std(0), 0.1),
}
NORMALIZATIONS: dict[str, tuple[Any, ...]] = {"none": (), "batch": (fnnet.BatchNorm(),)}
SCALES = (0.3, 1.0, 3.0)


def network(inputs: str, normalization: str, scale: float, config: Config) -> Steps:
    """Return the predicted and the measured number of steps of a network."""
    images, labels = data.digits().train
    x = jnp.asarray(INPUTS[inputs](images[: config.examples].reshape(config.examples, -1)), jnp.float32)
    batch = (x, jax.nn.one_hot(labels[: config.examples], 10))
    dense = partial(fnnet.Dense, w_init=lecun_normal)
    model = fnnet.sequential(dense(32), *NORMALIZATIONS[normalization], fnnet.tanh, dense(10))
    cost = fnnet.Cost(model, half_squared_error)
    params = map_named(lambda name, p: scale * p if is_weight(p) else p, model.init(jax.random.key(config.seed), x))
    values, shares = tangent_model(model, params, batch)
    top = float(largest_eigenvalue(cost, params, batch))
    if not np.isclose(top, values[-1], rtol=1e-2):
        raise AssertionError(f"λ_max is {top} by ggn_vp but {values[-1]} by the Jacobian")
    rate = 1 / values[-1]
    predicted = first_step(
        lambda t: float((shares * np.abs(1 - rate * values) ** (2 * t)).sum()), config.network_factor
    )
    steps, last, first = steps_until(cost, params, batch, rate, config.network_factor, config.most_steps)
    measured = float(steps) if float(last) <= config.network_factor * float(first) else math.inf
    return Steps(
        (inputs, normalization, f"{scale:g}"), (values[-1], values[-1] / np.median(values)), predicted, measured
    )


def half_squared_error(prediction: Array, target: Array) -> Array:
    """Return ``½ Σ_k (ŷ_k − y_k)²``."""
    return 0.5 * jnp.square(prediction - target).sum(-1)


@partial(jax.jit, static_argnums=0)
def largest_eigenvalue(cost: fnnet.Cost, params: Params, batch: Any) -> Array:
    return eigenvalues(partial(ggn_vp, cost, params, batch), params, key=jax.random.key(1), steps=120).largest.values[0]


@partial(jax.jit, static_argnums=0)
def residuals_and_jacobian(model: Any, params: Params, batch: Any) -> tuple[Array, Array]:
    vector, back = ravel_pytree(params)

    def residuals(theta: Array) -> Array:
        return (model.apply(back(theta), batch[0]) - batch[1]).ravel()

    return residuals(vector), jax.jacrev(residuals)(vector)


def tangent_model(model: Any, params: Params, batch: Any) -> tuple[Numbers, Numbers]:
    """Return the eigenvalues of ``J Jᵀ / N`` and the part of the squared residuals along each of its eigenvectors."""
    r, jacobian = (np.asarray(a, float) for a in residuals_and_jacobian(model, params, batch))
    values, vectors = np.linalg.eigh(jacobian @ jacobian.T / len(batch[0]))
    along = (vectors.T @ r) ** 2
    return values.clip(0), along / along.sum()


@partial(jax.jit, static_argnums=0)
def steps_until(
    cost: fnnet.Cost, params: Params, batch: Any, rate: Scalar, factor: Scalar, most: int
) -> tuple[Array, Array, Array]:
    """Return the number of updates until the cost has fallen by the factor, the cost then, and the first cost."""
    optimizer = fnnet.optimizers.sgd(jnp.asarray(rate, jnp.float32))
    step = fnnet.train_step(cost, optimizer)
    first = cost(params, batch)

    def update(carry: tuple[fnnet.TrainState, Array]) -> tuple[fnnet.TrainState, Array]:
        state, _ = step(carry[0], batch)
        return state, cost(state.params, batch)

    def unfinished(carry: tuple[fnnet.TrainState, Array]) -> Array:
        return (carry[1] > factor * first) & (carry[0].step < most)

    start = fnnet.TrainState.create(params, optimizer, jax.random.key(0)), first
    state, last = jax.lax.while_loop(unfinished, update, start)
    return state.step, last, first


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Return Spearman's correlation."""
    of_a, of_b = (np.argsort(np.argsort(np.minimum(each, 1e18))) for each in (a, b))
    return float(np.corrcoef(of_a, of_b)[0, 1])


def row_of(each: Steps) -> tuple[str, ...]:
    def shown(number: float) -> str:
        return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"

    return (*each.name, *map(shown, each.numbers), shown(each.predicted), shown(each.measured))


def picture(linear: list[Steps], networks: list[Steps]) -> Figure:
    """Return the measured steps over the predicted ones, on log axes, of the linear models and of the networks."""
    figure = Figure(figsize=(plots.WIDTH, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, each in enumerate(linear):
        look = plots.style(i, markers=True) | {"linestyle": "", "markersize": 8}
        left.plot(each.predicted, each.measured, label=f"{each.name[0]}, κ = {each.numbers[0]:.2g}", **look)
    for i, normalization in enumerate(NORMALIZATIONS):
        for inputs, size in zip(INPUTS, (4, 6.5, 9), strict=True):
            chosen = [each for each in networks if each.name[:2] == (inputs, normalization)]
            look = plots.style(i, markers=True) | {"linestyle": "", "markersize": size, "alpha": 0.8}
            name = "no normalization" if normalization == "none" else f"{normalization} normalization"
            right.plot(
                [each.predicted for each in chosen], [each.measured for each in chosen],
                label=name if size == 6.5 else None, **look,
            )  # fmt: skip
    for ax, group, title in (
        (left, linear, "a linear model, by its features"),
        (right, networks, "networks (small marks: inputs 0 to 1;\nmiddle: centred; large: standardized)"),
    ):
        numbers = [n for each in group for n in (each.predicted, each.measured) if np.isfinite(n)]
        span = [min(numbers) / 2, max(numbers) * 2]
        ax.plot(span, span, color="0.5", linewidth=1, zorder=1)
        ax.set(xscale="log", yscale="log", xlim=span, ylim=span)
        ax.set(xlabel="steps predicted from the eigenvalues", ylabel="steps measured")
        ax.set_title(title, loc="left", fontsize=plots.SMALL + 1)
        ax.set_aspect("equal")
        plots.tidy(ax)
        ax.legend(loc="upper left", fontsize=plots.SMALL, framealpha=0.9)
    return figure
