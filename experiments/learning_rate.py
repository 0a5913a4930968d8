"""Gradient descent at forty learning rates in one program: too low, right, at the edge, diverging.

Descent runs on a quadratic, whose edge is known, 2 / λ_max, and is measured by sweeps that narrow around it; and on
scikit-learn's digits with the network 64-32-10. Every step takes the whole batch, so that a rising cost is due to the
rate alone. The command exits with status 1 if the measured edge of the quadratic is not at 2 / λ_max.

A rate is
- diverging, if the final cost is not finite or not below the first;
- right, if its gain, log(first / final cost), is at least --fraction of the gain of the best rate;
- too low, if it gains less and is below the best rate;
- at the edge, if it gains less and is above the best rate, or if the cost rose in more than --rising of its steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import fnnet
from experiments import data, tuning
from experiments.results import Results, console
from experiments.tables import markdown_table, rich_table
from experiments.tuning import Numbers
from fnnet import plots
from fnnet.inspect import curvature
from fnnet.types import Array, Params, Scalar

REGIMES = ("too low", "right", "at the edge", "diverging")


@dataclass(frozen=True)
class Config:
    rates: int = 40
    """Number of rates of a sweep, evenly spaced in their logarithm."""
    lowest_rate: float = 1e-3
    """Lowest rate on the digits."""
    highest_rate: float = 1e2
    """Highest rate on the digits."""
    hidden: int = 32
    """Neurons of the hidden layer."""
    steps: int = 200
    """Updates on the digits."""
    quadratic_steps: int = 50
    """Updates on the quadratic."""
    largest_eigenvalue: float = 4.0
    """λ_max of the quadratic, whose smallest eigenvalue is 1."""
    dimensions: int = 8
    """Number of eigenvalues of the quadratic, evenly spaced in their logarithm."""
    narrowings: int = 2
    """Number of narrower sweeps of the quadratic around its edge."""
    rising: float = 0.02
    """Largest fraction of steps with a rising cost of a rate that is not at the edge."""
    fraction: float = 0.5
    """Smallest gain of a right rate, as a fraction of the gain of the best rate."""
    agreement: float = 1e-3
    """Largest relative difference between the measured edge and 2 / λ_max."""
    seed: int = 0
    """Seed of the first parameters."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Swept(NamedTuple):
    """The measurements of a sweep over ``R`` rates."""

    rates: Numbers  # (R,)
    costs: Numbers  # (R, steps + 1), before each update and after the last
    rising: Numbers  # (R,), the fraction of steps in which the cost rose
    regimes: list[str]  # (R,)

    def of(self, regime: str) -> Numbers:
        """Return the indices of the rates in a regime."""
        return np.array([i for i, each in enumerate(self.regimes) if each == regime], int)

    def representative(self, regime: str) -> int | None:
        """Return the index of the middle rate of a regime, of the best one if it is "right", or None if it is empty."""
        rates = self.of(regime)
        if not len(rates):
            return None
        return int(rates[np.argmin(self.costs[rates, -1])] if regime == "right" else rates[len(rates) // 2])


def run(config: Config) -> int:
    results = Results("learning_rate", config, config.runs)
    descents = Quadratic(config), Digits(config)
    swept = {descent.name: classify(*descent.sweep(descent.rates), config) for descent in descents}
    quadratic, digits = descents
    digits_swept = swept[digits.name]
    edge, low, high = narrowed_edge(quadratic, swept[quadratic.name], config)
    error = abs(edge / quadratic.edge - 1)
    agrees = error <= config.agreement
    first = int(digits_swept.of("diverging")[0]) if len(digits_swept.of("diverging")) else None
    said = (
        f"Quadratic: edge 2 / λ_max = {quadratic.edge:.6f}; measured between {low:.6f} and {high:.6f}, off by "
        f"{error:.1e} relative: {'they agree' if agrees else 'THEY DISAGREE'}.\n"
        f"Digits: 2 / λ_max = {digits.edge:.3f} at the start, where λ_max = {2 / digits.edge:.2f}; the lowest "
        f"rate that diverged is {'none' if first is None else f'{digits_swept.rates[first]:.3g}'}."
    )
    for name, each in swept.items():
        for i, regime in enumerate(each.regimes):
            numbers = {"final_cost": float(each.costs[i, -1]), "rising": float(each.rising[i])}
            results.record(function=name, rate=float(each.rates[i]), regime=regime, **numbers)
        console.print(rich_table(COLUMNS, [regime_row(each, regime) for regime in REGIMES], title=name))
    console.print(said, highlight=False)
    bound = r"$2\,/\,\lambda_{max}$"
    edges = {
        quadratic.name: {f"{bound} = {quadratic.edge:g}": quadratic.edge, f"measured {edge:.5f}": edge},
        digits.name: {f"{bound} = {digits.edge:.2g}\nat the start": digits.edge},
    }
    for name, each in swept.items():
        results.figure(name, regime_picture(each, edges[name]))
    rows = [(name, *regime_row(each, regime)) for name, each in swept.items() for regime in REGIMES]
    results.summary(f"{said}\n\n{markdown_table(('on', *COLUMNS), rows)}")
    return 0 if agrees else 1


def descend(objective: Callable[[Params], Array], start: Params, steps: int) -> Callable[[Array], Array]:
    """Return ``costs(rates)``: the costs of gradient descent at every rate, before each update and after the last."""

    def at_rate(rate: Scalar) -> Array:
        optimizer = fnnet.optimizers.sgd(rate)

        def step(carry: tuple[Params, Any], _: None) -> tuple[tuple[Params, Any], Array]:
            params, state = carry
            value, grads = jax.value_and_grad(objective)(params)
            updates, state = optimizer.update(grads, state, params)
            return (fnnet.apply_updates(params, updates), state), value

        (params, _), costs = jax.lax.scan(step, (start, optimizer.init(start)), length=steps)
        return jnp.append(costs, objective(params))

    return jax.jit(jax.vmap(at_rate))


class Quadratic:
    """``½ Σ λᵢ θᵢ²``, starting at ``θ = 1``: every step multiplies component i by ``1 − α λᵢ``."""

    name = "quadratic"

    def __init__(self, config: Config) -> None:
        eigenvalues = tuning.log_spaced(1.0, config.largest_eigenvalue, config.dimensions)
        self.edge = 2 / config.largest_eigenvalue
        self.rates = tuning.log_spaced(self.edge / 30, self.edge * 2, config.rates)
        start = jnp.ones_like(eigenvalues)
        self.costs = descend(lambda theta: 0.5 * (eigenvalues * jnp.square(theta)).sum(), start, config.quadratic_steps)

    def sweep(self, rates: Array) -> tuple[Numbers, Numbers]:
        return np.asarray(rates), np.asarray(self.costs(rates), np.float64)


class Digits:
    """The cost of a network over all training digits."""

    name = "digits"

    def __init__(self, config: Config) -> None:
        x, y = (jnp.asarray(array) for array in data.digits().train)
        model = fnnet.sequential(fnnet.Flatten(), fnnet.Dense(config.hidden), fnnet.tanh, fnnet.Dense(10))
        cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
        start = model.init(jax.random.key(config.seed), x)

        def objective(params: Params) -> Array:
            return cost(params, (x, y))

        sharpness = jax.jit(lambda params: curvature.sharpness(cost, params, (x, y), key=jax.random.key(0)))
        self.edge = 2 / float(sharpness(start))
        self.rates = tuning.log_spaced(config.lowest_rate, config.highest_rate, config.rates)
        self.costs = descend(objective, start, config.steps)

    def sweep(self, rates: Array) -> tuple[Numbers, Numbers]:
        return np.asarray(rates), np.asarray(self.costs(rates), np.float64)


def classify(rates: Numbers, costs: Numbers, config: Config) -> Swept:
    """Return the regime of every rate, as the docstring of this module defines them."""
    start, final = costs[:, 0], costs[:, -1]
    with np.errstate(invalid="ignore"):
        rising = (~(np.diff(costs) <= 0)).mean(1)  # a step to infinity or NaN counts
    diverging = ~(np.isfinite(costs).all(1) & (final < start))
    gained = np.where(diverging, 0, np.log(start / np.where(diverging, start, final)))
    best = int(np.argmax(gained))
    enough = gained >= config.fraction * gained[best]
    edge = (rising > config.rising) | (~enough & (rates > rates[best]))
    regimes = np.select([diverging, edge, enough], ["diverging", "at the edge", "right"], "too low")
    return Swept(rates, costs, rising, regimes.tolist())


def narrowed_edge(quadratic: Quadratic, swept: Swept, config: Config) -> tuple[float, float, float]:
    """Return the rate above which descent diverges, and the two rates of the last sweep around it.

    Each sweep, by the same program, spans the interval between two neighbouring rates of the sweep before. A rate
    diverges if the cost rises in the second half of the steps, when only the component of λ_max is left.
    """

    def around(rates: Numbers, costs: Numbers) -> tuple[float, float]:
        converges = costs[:, -1] < costs[:, costs.shape[1] // 2]  # NaN does not converge
        first = int(np.argmin(converges))
        return float(rates[first - 1]), float(rates[first])

    low, high = around(swept.rates, swept.costs)
    for _ in range(config.narrowings):
        low, high = around(*quadratic.sweep(tuning.log_spaced(low, high, config.rates)))
    return (low * high) ** 0.5, low, high


COLUMNS = ("regime", "rates", "final cost", "steps with rising cost")


def regime_row(swept: Swept, regime: str) -> tuple[str, ...]:
    chosen = swept.of(regime)
    if not len(chosen):
        return regime, "none", "", ""
    final, rising = swept.costs[chosen, -1], swept.rising[chosen]
    return (
        regime,
        f"{swept.rates[chosen[0]]:.2g} to {swept.rates[chosen[-1]]:.2g} ({len(chosen)})",
        f"{final.min():.1e} to {final.max():.1e}",
        f"{rising.min():.0%} to {rising.max():.0%}",
    )


def regime_picture(swept: Swept, edges: dict[str, float]) -> Figure:
    """Return the final cost by rate, marked by regime, and the costs by step of one rate of each regime.

    Costs that are too high lie at the upper edge of the frame. ``edges`` are rates to mark, by their labels.
    """
    figure = Figure(figsize=(plots.WIDTH, 3.9), layout="constrained")
    by_rate, by_step = figure.subplots(1, 2)
    top, bottom = 10 * swept.costs[0, 0], np.nanmin(swept.costs) / 3
    for i, regime in enumerate(REGIMES):
        chosen = swept.of(regime)
        look = plots.style(i, markers=True) | {"linestyle": ""}
        shown = np.nan_to_num(swept.costs[chosen, -1], nan=np.inf).clip(None, top)
        by_rate.plot(swept.rates[chosen], shown, label=regime, markersize=4.5, clip_on=False, **look)
        representative = swept.representative(regime)
        if representative is not None:
            label = f"{regime}: {swept.rates[representative]:.2g}"
            by_step.plot(swept.costs[representative], label=label, **plots.style(i))
    for edge, dashes in zip(edges.values(), ("-", ":"), strict=False):
        by_rate.axvline(edge, color="black" if dashes == ":" else "0.6", linestyle=dashes, linewidth=1.6, zorder=1)
    position: dict[str, Any] = {"xytext": (-6, 0), "textcoords": "offset points", "ha": "right", "va": "top"}
    first = min(edges.values())
    by_rate.annotate(
        "\n".join(edges), (first, 0.93), xycoords=("data", "axes fraction"), fontsize=plots.SMALL, **position
    )
    by_rate.set(xscale="log", xlabel="learning rate", ylabel="cost after the last step")
    by_step.set(xlabel="step", ylabel="cost")
    for ax in (by_rate, by_step):
        ax.set(yscale="log", ylim=(bottom, top))
        plots.tidy(ax)
        ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.02), ncols=2, frameon=False, fontsize=plots.SMALL)
    return figure
