"""The training loop on the host."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.cost import Cost
from fnnet.optimizers import Optimizer
from fnnet.training.data import checked_data
from fnnet.training.epoch import check_batch_size, train_epoch
from fnnet.training.evaluate import evaluate
from fnnet.training.state import TrainState
from fnnet.training.step import Measure
from fnnet.types import Array, Batch, Loss, Params

Record = dict[str, float]


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

    ``history`` has ``epoch``, ``step``, ``cost`` (the mean over the epoch), ``seconds`` (training alone, without
    compiling), ``compile_seconds`` (in the first epoch; else 0) and the numbers of ``measure``, means over the epoch's
    updates (see ``train_step``; for example ``measure=fnnet.inspect.update_ratios``). The epoch itself is the pure
    function ``fnnet.train_epoch``: compile, ``vmap`` or shard that for whatever this loop does not do.
    """
    checks.positive_integer("fit", "epochs", epochs)
    checks.positive_integer("fit", "batch_size", batch_size)
    state = initial_state(params, optimizer, key)
    data = checked_data("fit", cost, state.params, data)
    check_batch_size("fit", batch_size, len(data[0]))
    if validation is not None:
        validation = checked_data("fit: validation", cost, state.params, validation)
    if patience is not None:
        checks.positive_integer("fit", "patience", patience)
        checks.require(validation is not None, "fit: patience needs validation data; pass validation=(x, y)")
    checks.require(not metrics or validation is not None, "fit: metrics need validation data; pass validation=(x, y)")

    epoch = train_epoch(
        cost,
        optimizer,
        batch_size=batch_size,
        value_and_grad=value_and_grad,
        shuffle=shuffle,
        drop_last=drop_last,
        measure=measure,
    )
    # The state that an epoch receives is dead after it, unless a callback may have kept it.
    compiled, compile_seconds = compile_timed(jax.jit(epoch, donate_argnums=() if callback else (0,)), state, data)
    evaluation = jax.jit(evaluate(cost, metrics))
    history: dict[str, list[float]] = {}
    best, best_cost, waited = copied(state), float("inf"), 0
    for number in range(1, epochs + 1):
        start = time.perf_counter()
        state, measured = jax.block_until_ready(compiled(state, data))
        record = {
            "epoch": number,
            "step": int(state.step),
            "cost": float(measured["cost"]),
            "seconds": time.perf_counter() - start,
            "compile_seconds": compile_seconds if number == 1 else 0.0,
        }
        record |= {name: float(mean) for name, mean in measured.items() if name not in ("cost", "step_costs")}
        if validation is not None:
            record |= {f"validation_{name}": float(v) for name, v in evaluation(state.params, validation).items()}
        for name, value in record.items():
            history.setdefault(name, []).append(value)
        answer = None if callback is None else callback(state, dict(record))
        stop = isinstance(answer, (bool, np.bool_)) and bool(answer)
        if patience is not None:
            waited += 1
            if record["validation_cost"] < best_cost:
                best, best_cost, waited = copied(state), record["validation_cost"], 0
            stop = stop or waited >= patience
        if not math.isfinite(record["cost"]):
            warnings.warn(
                f"fit: the cost of epoch {number} is {record['cost']}, training stops; lower the learning rate, or "
                f"check the initial parameters with fnnet.evaluate",
                RuntimeWarning,
                stacklevel=2,
            )
            stop = True
        if stop:
            break
    return FitResult(best if patience is not None else state, history)


def initial_state(params: Params | TrainState, optimizer: Optimizer, key: Array | None) -> TrainState:
    """A state of its own buffers: the caller's arrays must outlive the donation of the state."""
    if isinstance(params, TrainState):
        checks.require(key is None, "fit: a TrainState has its own key; leave key= out when continuing from one")
        return copied(params)
    if key is None:
        raise ValueError(
            "fit: key is None; pass key=jax.random.key(...) "
            "for the order of the examples and the model's random numbers"
        )
    return copied(TrainState.create(params, optimizer, key))


def copied(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)


def compile_timed(function: Any, *arguments: Any) -> tuple[Callable[..., Any], float]:
    start = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    return compiled, time.perf_counter() - start
