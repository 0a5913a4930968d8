"""The cost over planes through the trained weights, as contours and as a surface, with the path of the descent.

A multilayer perceptron learns scikit-learn's digits by gradient descent with momentum, and its parameters are recorded
on the way. Two planes go through the last parameters: one along random filter-normalized directions, one along the
first two principal components of the path. The command exits with status 1 if the cost in the middle of a plane is not
that of the last parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

import fnnet
from experiments import data
from experiments.cli import ExperimentError
from experiments.results import Results, console
from fnnet import inspect, plots


@dataclass(frozen=True)
class Config:
    hidden: int = 32
    """Neurons of the hidden layer."""
    steps: int = 1500
    """Updates of the parameters."""
    record_every: int = 10
    """Updates between two recorded points of the path."""
    batch_size: int = 32
    """Digits per update."""
    learning_rate: float = 0.2
    """Rate of the descent."""
    momentum: float = 0.9
    """Decay rate of the moving average of the gradients."""
    weight_decay: float = 1e-3
    """Strength of the L2 penalty, which the drawn cost contains."""
    resolution: int = 61
    """Points along each side of a plane."""
    extent: float = 1.0
    """Half the side of the random plane; 1 changes the weights of every neuron by their own length."""
    seed: int = 0
    """Seed of the first parameters, the batches and the random directions."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Plane(NamedTuple):
    """A plane through the end of the path: the fraction of the path's variance in it, and the cost in its middle."""

    land: plots.Landscape
    fraction: float
    centre: float


def run(config: Config) -> int:
    if config.steps % config.record_every:
        raise ExperimentError(
            f"steps is {config.steps}; expected a multiple of record_every = {config.record_every}, so that the last "
            f"parameters are recorded"
        )
    if config.resolution < 3 or config.extent <= 0:
        raise ExperimentError(
            f"resolution is {config.resolution} and extent is {config.extent}; expected at least 3 and a number above 0"
        )
    results = Results("landscape", config, config.runs)
    model = fnnet.sequential(fnnet.Flatten(), fnnet.Dense(config.hidden), fnnet.relu, fnnet.Dense(10))
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy, fnnet.penalties.l2(config.weight_decay))
    split = data.digits()
    train: fnnet.types.Batch = (jnp.asarray(split.train[0]), jnp.asarray(split.train[1]))

    init_key, train_key, plane_key = jax.random.split(jax.random.key(config.seed), 3)
    path = jax.jit(lambda params, key: descend(cost, config, params, train, key))(
        model.init(init_key, train[0]), train_key
    )
    first, last = (jax.tree.map(lambda leaf, i=i: leaf[i], path) for i in (0, -1))
    numbers = sum(leaf.size for leaf in jax.tree.leaves(last))
    trained = float(cost(last, train))
    console.print(f"64-{config.hidden}-10, {numbers} parameters: {len(path[1]['b'])} points of {config.steps} updates")
    console.print(f"cost {float(cost(first, train)):.4f} at the start, {trained:.4f} at the end")

    components = jax.jit(inspect.path_directions)(path)
    explained = np.asarray(components.explained, np.float64)
    random = jax.vmap(inspect.filter_normalized, (0, None))(jax.random.split(plane_key), last)
    names = [f"principal component {k + 1} ({fraction:.0%})" for k, fraction in enumerate(explained)]
    planes = {
        "along random directions": plane_through(
            cost, train, path, random, ("random direction 1", "random direction 2"), config, config.extent
        ),
        "along the path": plane_through(cost, train, path, components.directions, (names[0], names[1]), config),
    }
    console.print(table_of(planes))
    for name, plane in planes.items():
        results.record(plane=name, fraction=plane.fraction, centre=plane.centre, trained=trained)
    titled = {f"{name}\n{plane.fraction:.1%} of the path's variance": plane.land for name, plane in planes.items()}
    results.figure("contours", plots.landscape_contours(titled))
    for name, plane in planes.items():
        results.figure(f"surface {name}".replace(" ", "_"), plots.landscape_surface(plane.land, f"The cost {name}"))

    rows = "\n".join(f"| {name} | {plane.fraction:.2%} | {plane.centre:.4f} |" for name, plane in planes.items())
    results.summary(
        f"Cost of the trained parameters: {trained:.4f}.\n\n"
        f"| plane | fraction of the path's variance in it | cost in the middle |\n|---|---|---|\n{rows}"
    )
    return 0 if all(math.isclose(plane.centre, trained, rel_tol=1e-5) for plane in planes.values()) else 1


def descend(cost: fnnet.Cost, config: Config, params: Any, train: Any, key: jax.Array) -> Any:
    """Return the parameters at the start and after every ``record_every`` updates, stacked on a first axis."""
    optimizer = fnnet.optimizers.momentum(config.learning_rate, config.momentum)
    step = fnnet.train_step(cost, optimizer)

    def update(state: fnnet.TrainState, _: Any) -> tuple[fnnet.TrainState, None]:
        rows = jax.random.randint(state.order_key(), (config.batch_size,), 0, len(train[0]))
        return step(state, (train[0][rows], train[1][rows]))[0], None

    def stretch(state: fnnet.TrainState, _: Any) -> tuple[fnnet.TrainState, Any]:
        return jax.lax.scan(update, state, length=config.record_every)[0], state.params

    state = fnnet.TrainState.create(params, optimizer, key)
    state, path = jax.lax.scan(stretch, state, length=config.steps // config.record_every)
    return jax.tree.map(lambda before, last: jnp.concatenate([before, last[None]]), path, state.params)


def plane_through(
    cost: fnnet.Cost,
    train: Any,
    path: Any,
    directions: Any,
    labels: tuple[str, str],
    config: Config,
    extent: float | None = None,
) -> Plane:
    """Return the plane along two directions through the end of the path, as wide as ``extent`` or as the path."""
    last = jax.tree.map(lambda leaf: leaf[-1], path)
    coordinates = jax.jit(jax.vmap(inspect.project_on, (0, None, None)))(path, last, directions)
    nearest = jax.vmap(inspect.plane_point, (None, None, 0))(last, directions, coordinates)
    sides = [grid(along, extent, config.resolution) for along in np.asarray(coordinates, np.float64).T]

    def costs(x: jax.Array, y: jax.Array, batch: Any) -> tuple[jax.Array, jax.Array]:
        def objective(params: Any) -> jax.Array:
            return cost(params, batch)

        return inspect.cost_plane(objective, last, directions, x, y), jax.lax.map(objective, nearest)

    x, y = (jnp.asarray(side, jnp.float32) for side in sides)
    plane, path_costs = jax.jit(costs)(x, y, train)
    centre = float(plane[np.flatnonzero(sides[1] == 0)[0], np.flatnonzero(sides[0] == 0)[0]])
    land = plots.Landscape(
        sides[0], sides[1], np.asarray(plane), np.asarray(coordinates), np.asarray(path_costs), labels
    )
    return Plane(land, variance(nearest) / variance(path), centre)


def grid(path: Any, extent: float | None, resolution: int) -> Any:
    """Return evenly spaced coordinates that contain 0: from −extent to extent, or a third wider than the path."""
    margin = (np.ptp(path) or 1.0) / 3
    low, high = (-extent, extent) if extent else (path.min() - margin, path.max() + margin)
    spacing = (high - low) / (resolution - 1)
    return spacing * np.arange(round(low / spacing), round(high / spacing) + 1)


def variance(path: Any) -> float:
    """Return ``Σ_t ‖θ_t − θ̄‖²`` over all parameters."""
    return float(sum(jnp.square(leaf - leaf.mean(0)).sum() for leaf in jax.tree.leaves(path)))


def table_of(planes: dict[str, Plane]) -> Table:
    table = Table("plane", "path's variance", "cost in the middle", "lowest", "highest", box=None, pad_edge=False)
    for name, plane in planes.items():
        lowest, highest = plane.land.costs.min(), plane.land.costs.max()
        table.add_row(name, f"{plane.fraction:.2%}", f"{plane.centre:.4f}", f"{lowest:.4f}", f"{highest:.2f}")
    return table
