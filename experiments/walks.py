"""Paths of the optimizers on the surfaces, each at its best rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import fnnet
from experiments import tuning
from experiments.contenders import Contender
from experiments.surfaces import SURFACES, Surface, value
from experiments.tables import TableRows
from experiments.tuning import Numbers
from fnnet import plots
from fnnet.types import Array, Params

REACHED = 1e-3  # the largest distance from the lowest value that counts as reached
STAYED = 10  # the number of updates for which a path must stay; one that only passes by has not reached it


class Walked(NamedTuple):
    """The best path of an optimizer on each surface of ``SURFACES``."""

    contender: Contender
    rates: list[str]
    paths: Numbers  # (surfaces, steps + 1, 2)
    excess: Numbers  # (surfaces, steps + 1), above the lowest value


def walk(contender: Contender, rates: Array, steps: int) -> Walked:
    """Compute the paths at all rates on all surfaces in one program, and return the best path on each surface.

    The point is a matrix of one row, so that Muon takes it; its step is then the normalized gradient.
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

        return jax.lax.scan(step, (params, optimizer.init(params)), length=steps + 1)[1]

    rates = rates if contender.tuned else rates[:1]
    every = jax.jit(jax.vmap(jax.vmap(descend, (None, 0)), (0, None)))
    points, heights = (np.asarray(array) for array in every(jnp.arange(len(SURFACES)), rates))
    excess = heights - np.array([surface.lowest for surface in SURFACES])[:, None, None]
    best = [quickest(of_surface) for of_surface in excess]
    surfaces = range(len(SURFACES))
    names = [contender.shown_rate(np.asarray(rates), i) for i in best]
    return Walked(contender, names, points[surfaces, best], excess[surfaces, best])


def quickest(excess: Numbers) -> int:
    """Return the index of the run that reaches the minimum first, or of the lowest final one; ``(R, steps + 1)``."""
    reached = [steps_to_reach(run) for run in excess]
    times = [np.inf if steps is None else steps for steps in reached]
    return tuning.lowest(times if np.isfinite(times).any() else excess[:, -1])


def steps_to_reach(excess: Numbers) -> int | None:
    """Return the updates after which the excess stays at most ``REACHED``, for ``STAYED`` updates, or None."""
    above = np.flatnonzero(~(excess <= REACHED))
    steps = int(above[-1]) + 1 if len(above) else 0
    return steps if steps + STAYED <= len(excess) else None


def surface_table(walked: Sequence[Walked]) -> TableRows:
    rows = [(one.contender.name, *(reaching(one, i) for i in range(len(SURFACES)))) for one in walked]
    return ("optimizer", *(surface.title for surface in SURFACES)), rows


def reaching(one: Walked, surface: int) -> str:
    steps = steps_to_reach(one.excess[surface])
    reached = f"not: {one.excess[surface][-1]:.1e}" if steps is None else f"{steps}"
    return f"{reached} ({one.rates[surface]})"


def paths_on(surface: Surface, paths: Mapping[str, Mapping[str, Numbers]]) -> Figure:
    """Return ``paths``, by family and name, over the contours of the surface."""
    x, y = np.linspace(*surface.x_range, 241), np.linspace(*surface.y_range, 241)
    heights = np.asarray(surface.function(*(jnp.asarray(a) for a in np.meshgrid(x, y)))) - surface.lowest
    title = f"{surface.title}:  {surface.formula}"
    return plots.descent_paths(x, y, heights, paths, minima=surface.minima, title=title)
