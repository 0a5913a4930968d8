"""The training loop on the host."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fnnet import checks
from fnnet.cost import Cost
from fnnet.optimizers import Optimizer
from fnnet.training.data import checked_data
from fnnet.training.evaluate import evaluate
from fnnet.training.mesh import OnMesh
from fnnet.training.placing import DefaultDevice, Placing
from fnnet.training.progress import Progress, Record
from fnnet.training.source import Arrays
from fnnet.training.state import TrainState
from fnnet.training.step import Measure
from fnnet.types import Array, Batch, Loss, Params


class FitResult(NamedTuple):
    """The last state (the best one under early stopping), and by name a list with one number per epoch."""

    state: TrainState
    history: dict[str, list[float]]


def fit(
    cost: Cost,
    optimizer: Optimizer,
    params: Params | TrainState,
    data: Batch,
    *,
    key: Array | None = None,
    epochs: int = 10,
    batch_size: int = 32,
    validation: Batch | None = None,
    metrics: Mapping[str, Loss] | None = None,
    patience: int | None = None,
    callback: Callable[[TrainState, Record], Any] | None = None,
    value_and_grad: Callable[[Any], Callable[..., Any]] = jax.value_and_grad,
    shuffle: bool = True,
    drop_last: bool = False,
    measure: Measure | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> FitResult:
    """Train for some epochs and return the final state and the history. Silent; the arguments are left as they are.

    ``params`` are initial parameters, with a ``key`` for the order of the examples and the model's random numbers; or
    the ``TrainState`` of an earlier run, to continue it. ``data`` is ``(x, y)`` with examples on the first axis,
    checked once. ``batch_size=len(x)`` is whole-batch, ``1`` stochastic gradient descent.

    With ``validation`` data the history has ``validation_cost`` and, for each of ``metrics`` (such as
    ``{"accuracy": fnnet.accuracy}``), ``validation_NAME``. ``patience`` stops after that many epochs without a lower
    validation cost and returns the state of the best epoch. ``callback(state, record)`` is called after every epoch
    with its numbers; training stops if it returns True. It also stops, with a RuntimeWarning, at a cost that is NaN or
    infinite.

    ``mesh`` spreads the run over devices, also of several processes: batches over its axis ``data``, parameters and
    the optimizer's state over its axis ``model`` if it has one (``fnnet.training.mesh.OnMesh`` tells how).

    ``history`` has ``epoch``, ``step``, ``cost`` (the mean over the epoch), ``seconds`` (training alone, without
    compiling), ``compile_seconds`` (in the first epoch; else 0) and the numbers of ``measure``, means over the epoch's
    updates (see ``train_step``; for example ``measure=fnnet.inspect.update_ratios``). The epoch itself is the pure
    function ``fnnet.train_epoch``: compile, ``vmap`` or shard that for whatever this loop does not do.
    """
    checks.positive_integer("fit", "epochs", epochs)
    checks.positive_integer("fit", "batch_size", batch_size)
    placing: Placing = DefaultDevice() if mesh is None else OnMesh.checked(mesh, batch_size)
    state = placing.state(initial_state(params, optimizer, key))
    source = Arrays(
        cost,
        optimizer,
        placing.batch(checked_data("fit", cost, state.params, data)),
        batch_size=batch_size,
        # The state that an epoch receives is dead after it, unless a callback may have kept it.
        donate=callback is None,
        program=placing.program,
        value_and_grad=placing.engine(value_and_grad),
        shuffle=shuffle,
        drop_last=drop_last,
        measure=measure,
    )
    if validation is not None:
        validation = placing.batch(checked_data("fit: validation", cost, state.params, validation))
    if patience is not None:
        checks.positive_integer("fit", "patience", patience)
        checks.require(validation is not None, "fit: patience needs validation data; pass validation=(x, y)")
    checks.require(not metrics or validation is not None, "fit: metrics need validation data; pass validation=(x, y)")

    evaluation = jax.jit(evaluate(cost, metrics))
    progress = Progress.start(state, source.steps, keep_best=patience is not None)
    last, compile_seconds = progress.epoch + epochs, source.compile(state)
    while progress.epoch < last:
        progress = run_epoch(source, progress)
        record = progress.record(compile_seconds)
        compile_seconds = 0.0
        if validation is not None:
            numbers = evaluation(progress.state.params, validation)
            record |= {f"validation_{name}": float(value) for name, value in numbers.items()}
        progress = progress.next_epoch(record)
        if patience is not None:
            progress = progress.compared(record["validation_cost"])
        finite = math.isfinite(record["cost"])
        if not finite:
            warnings.warn(not_finite(record), RuntimeWarning, stacklevel=2)
        asked = callback is not None and is_true(callback(progress.state, dict(record)))
        if asked or not finite or (patience is not None and progress.waited >= patience):
            break
    return FitResult(progress.state if progress.best is None else progress.best, progress.history)


def run_epoch(source: Arrays, progress: Progress) -> Progress:
    """The rest of an epoch."""
    start = time.perf_counter()
    for part in source.parts(progress.state, progress.place):
        jax.block_until_ready(part)
        now = time.perf_counter()
        progress = progress.after(part, now - start)
        start = now
    return progress


def initial_state(params: Params | TrainState, optimizer: Optimizer, key: Array | None) -> TrainState:
    if isinstance(params, TrainState):
        checks.require(key is None, "fit: a TrainState has its own key; leave key= out when continuing from one")
        return params
    if key is None:
        raise ValueError(
            "fit: key is None; pass key=jax.random.key(...) "
            "for the order of the examples and the model's random numbers"
        )
    return TrainState.create(params, optimizer, key)


def is_true(answer: Any) -> bool:
    """A callback stops by returning True itself: what else it returns is its own affair."""
    return isinstance(answer, (bool, np.bool_)) and bool(answer)


def not_finite(record: Record) -> str:
    return (
        f"fit: the cost of epoch {record['epoch']} is {record['cost']}, training stops; lower the learning rate, or "
        f"check the initial parameters with fnnet.evaluate"
    )
