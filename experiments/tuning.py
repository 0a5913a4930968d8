"""Training as a function of the learning rate, from the same start and with the same batches at every rate."""

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
    """A run of training; under ``vmap`` over ``R`` rates, with an axis for them in front."""

    params: Params  # after 0, 1, ... epochs: leaves (epochs + 1, ...)
    metrics: dict[str, Array]  # those of each epoch: (epochs, ...)


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
    """``train(rate)``, a pure function: training from ``params`` with ``make(rate)``; to compile or to ``vmap``.

    ``options`` are those of ``fnnet.train_epoch``.
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
    """Cost and accuracy over all of ``data`` of every network of a run: ``(epochs + 1,)`` of each."""
    metrics = {"accuracy": fnnet.accuracy}
    return jax.jit(jax.vmap(lambda params: fnnet.evaluate(cost, params, data, metrics, batch_size=len(data[0]))))


def lowest(costs: Sequence[float] | Numbers | Array) -> int:
    """The place of the lowest of the costs, NaN and infinite ones left out; 0 if none is left."""
    numbers = np.asarray(costs, np.float64)
    return int(np.argmin(np.where(np.isfinite(numbers), numbers, np.inf)))
