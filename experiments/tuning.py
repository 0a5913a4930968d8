"""Training at many learning rates at once, from the same start and with the same batches, as one compiled program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from fnnet.optimizers import Optimizer
from fnnet.types import Array, Params, Scalar

Numbers = np.ndarray[Any, Any]


class Sweep(NamedTuple):
    """One run for each of ``R`` rates."""

    params: Params  # after 0, 1, ... epochs: leaves (R, epochs + 1, ...)
    metrics: dict[str, Array]  # those of each epoch: (R, epochs, ...)


def log_spaced(lowest: float, highest: float, count: int) -> Array:
    return jnp.asarray(np.geomspace(lowest, highest, count), jnp.float32)


def sweep(
    cost: fnnet.Cost,
    make: Callable[[Scalar], Optimizer],
    params: Params,
    data: tuple[Any, Any],
    rates: Array,
    *,
    key: Array,
    epochs: int,
    batch_size: int,
    **options: Any,
) -> Sweep:
    """Train with ``make(rate)`` for every rate. ``options`` are those of ``fnnet.train_epoch``."""

    def train(rate: Array) -> Sweep:
        optimizer = make(rate)
        epoch = fnnet.train_epoch(cost, optimizer, batch_size=batch_size, **options)

        def one(state: fnnet.TrainState, _: None) -> tuple[fnnet.TrainState, tuple[Params, dict[str, Array]]]:
            state, metrics = epoch(state, data)
            return state, (state.params, metrics)

        _, (path, metrics) = jax.lax.scan(one, fnnet.TrainState.create(params, optimizer, key), length=epochs)
        return Sweep(jax.tree.map(lambda p, later: jnp.concatenate([p[None], later]), params, path), metrics)

    return jax.jit(jax.vmap(train))(rates)


def along(cost: fnnet.Cost, data: tuple[Any, Any]) -> Callable[[Params], dict[str, Array]]:
    """Cost and accuracy over all of ``data`` of every network of a ``Sweep``: ``(R, epochs + 1)`` of each."""
    evaluation = fnnet.evaluate(cost, {"accuracy": fnnet.accuracy}, batch_size=len(data[0]))
    of_run = jax.vmap(lambda params: evaluation(params, data))
    return jax.jit(lambda params: jax.lax.map(of_run, params))


def lowest(costs: Sequence[float] | Numbers | Array) -> int:
    """The place of the lowest of the costs, NaN and infinite ones left out; 0 if none is left."""
    numbers = np.asarray(costs, np.float64)
    return int(np.argmin(np.where(np.isfinite(numbers), numbers, np.inf)))
