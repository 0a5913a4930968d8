"""Training as a function of the learning rate, with the same start and the same batches at every rate."""

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


class Run(NamedTuple):
    """A run of training. Under ``vmap`` over ``R`` rates, every leaf has one more axis in front."""

    params: Params  # after 0, 1, ... epochs: leaves (epochs + 1, ...)
    metrics: dict[str, Array]  # of each epoch: (epochs, ...)


def log_spaced(lowest: float, highest: float, count: int) -> Array:
    return jnp.asarray(np.geomspace(lowest, highest, count), jnp.float32)


def training(
    cost: fnnet.Cost,
    make: Callable[[Scalar], Optimizer],
    params: Params,
    data: tuple[Any, Any],
    *,
    key: Array,
    epochs: int,
    batch_size: int,
    **options: Any,
) -> Callable[[Scalar], Run]:
    """Return the pure function ``train(rate)``, which trains from ``params`` on with the optimizer ``make(rate)``.

    ``options`` are those of ``fnnet.train_epoch``. The function may be compiled and mapped by ``vmap``.
    """

    def train(rate: Scalar) -> Run:
        optimizer = make(rate)
        epoch = fnnet.train_epoch(cost, optimizer, batch_size=batch_size, **options)

        def one(state: fnnet.TrainState, _: None) -> tuple[fnnet.TrainState, tuple[Params, dict[str, Array]]]:
            state, metrics = epoch(state, data)
            return state, (state.params, metrics)

        _, (path, metrics) = jax.lax.scan(one, fnnet.TrainState.create(params, optimizer, key), length=epochs)
        return Run(jax.tree.map(lambda p, later: jnp.concatenate([p[None], later]), params, path), metrics)

    return train


def along(cost: fnnet.Cost, data: tuple[Any, Any]) -> Callable[[Params], dict[str, Array]]:
    """Return the function that measures the cost and accuracy over ``data`` after each epoch of a run."""
    metrics = {"accuracy": fnnet.accuracy}
    return jax.jit(jax.vmap(lambda params: fnnet.evaluate(cost, params, data, metrics, batch_size=len(data[0]))))


def lowest(costs: Sequence[float] | Numbers | Array) -> int:
    """Return the index of the lowest finite cost, or 0 if no cost is finite."""
    numbers = np.asarray(costs, np.float64)
    return int(np.argmin(np.where(np.isfinite(numbers), numbers, np.inf)))
