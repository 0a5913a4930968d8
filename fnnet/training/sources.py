"""Data as ``fit`` takes it: arrays that lie on the device, or a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from fnnet import checks
from fnnet.cost import Cost
from fnnet.data import Stream
from fnnet.data.augment import Augmentation
from fnnet.optimizers import Optimizer
from fnnet.training.data import checked_data
from fnnet.training.evaluate import Evaluation, evaluate
from fnnet.training.metrics import Metric
from fnnet.training.placing import Placing
from fnnet.training.source import Arrays, Source
from fnnet.training.state import TrainState
from fnnet.training.streamed import Streamed
from fnnet.training.streamed_evaluation import evaluate_stream
from fnnet.types import Batch, Loss

BATCH_SIZE = 32


def source_of(
    cost: Cost,
    optimizer: Optimizer,
    state: TrainState,
    data: Batch | Stream,
    placing: Placing,
    batching: Mapping[str, Any],
    *,
    augment: Augmentation | None,
    **options: Any,
) -> Source:
    """``batching`` is how arrays are cut into batches: ``batch_size``, ``shuffle``, ``drop_last``."""
    if isinstance(data, Stream):
        batch_size, shuffle, drop_last = (batching[name] for name in ("batch_size", "shuffle", "drop_last"))
        checks.require(
            batch_size in (None, data.batch_size) and shuffle and not drop_last,
            "fit: batch_size, shuffle and drop_last are a stream's own; give them to fnnet.data.from_arrays or "
            "from_batches (batch_size, shuffle, last) and leave them out here",
        )
        return Streamed(cost, optimizer, data, augment=augment, **options)
    batch_size = BATCH_SIZE if batching["batch_size"] is None else batching["batch_size"]
    checks.positive_integer("fit", "batch_size", batch_size)
    arrays = placing.batch(checked_data("fit", cost, state.params, data, augment))
    return Arrays(cost, optimizer, arrays, augment=augment, **{**batching, "batch_size": batch_size}, **options)


def checked_validation(cost: Cost, state: TrainState, data: Batch | Stream, placing: Placing) -> Batch | Stream:
    if isinstance(data, Stream):
        checked_data("fit: the first batch of validation", cost, state.params, data.first_batch(state.order_key()))
        return data
    return placing.batch(checked_data("fit: validation", cost, state.params, data))


def evaluation_of(
    cost: Cost, metrics: Mapping[str, Loss | Metric] | None, data: Batch | Stream | None
) -> Callable[..., Any]:
    """The program that evaluates on validation data of this kind, with single numbers as results."""
    evaluation: Evaluation
    evaluation = evaluate_stream(cost, metrics) if isinstance(data, Stream) else jax.jit(evaluate(cost, metrics))

    def run(params: Any, data: Any) -> dict[str, Any]:
        numbers = evaluation(params, data)
        for name, number in numbers.items():
            checks.require(
                number.ndim == 0,
                f"fit: the metric {name!r} gives an array of shape {number.shape}; a history has single numbers: "
                f"leave it out here and use fnnet.evaluate after training",
            )
        return numbers

    return run
