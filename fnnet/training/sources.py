"""Data as ``fit`` takes it: arrays that lie on the device, or a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fnnet import checks
from fnnet.cost import Cost
from fnnet.data import Stream
from fnnet.data.augment import Augmentation
from fnnet.optimizers import Optimizer
from fnnet.training.data import checked_data
from fnnet.training.metrics import Metric
from fnnet.training.placing import Placing
from fnnet.training.progress import Record
from fnnet.training.source import Arrays, Source
from fnnet.training.state import TrainState
from fnnet.training.streamed import Streamed
from fnnet.training.streamed_evaluation import streamed_evaluation
from fnnet.training.validation import ArraysValidation, Validation, record_of
from fnnet.types import Batch, Loss, Params

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
    value_and_grad: Callable[[Any], Callable[..., Any]],
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
        source = Streamed(cost, optimizer, data, placing, augment=augment, value_and_grad=value_and_grad, **options)
        if placing.processes > 1:  # before anything in which processes wait for one another, such as a checkpoint
            source.look(state)
        return source
    batch_size = BATCH_SIZE if batching["batch_size"] is None else batching["batch_size"]
    checks.positive_integer("fit", "batch_size", batch_size)
    placing.check_batch_size(batch_size)
    with placing.checking():
        checked = checked_data("fit", cost, state.params, data, augment)
    arrays = placing.batch(checked)
    options |= {**batching, "batch_size": batch_size, "value_and_grad": placing.engine(value_and_grad)}
    return Arrays(cost, optimizer, arrays, program=placing.program, augment=augment, **options)


def validation_of(
    cost: Cost,
    metrics: Mapping[str, Loss | Metric] | None,
    state: TrainState,
    data: Batch | Stream,
    placing: Placing,
    parameters: Callable[[TrainState], Params] | None,
) -> Validation:
    if isinstance(data, Stream):
        check = partial(checked_data, "fit: the first batch of validation", cost, state.params)
        placing.first_batch("fit: validation", data, state.order_key(), check)
        return StreamValidation(cost, metrics, data, placing, parameters)
    with placing.checking():
        checked = checked_data("fit: validation", cost, state.params, data)
    return ArraysValidation(cost, metrics, placing.batch(checked, "fit: validation"), parameters)


class StreamValidation:
    """Examples on the host: ``evaluate_stream``, which compiles its one program in the first epoch."""

    def __init__(
        self,
        cost: Cost,
        metrics: Mapping[str, Loss | Metric] | None,
        stream: Stream,
        placing: Placing,
        parameters: Callable[[TrainState], Params] | None,
    ) -> None:
        self.evaluation = streamed_evaluation("fit: validation", cost, metrics, placing)
        self.stream, self.parameters = stream, parameters or (lambda state: state.params)

    def compile(self, state: TrainState) -> float:
        return 0.0

    def __call__(self, state: TrainState) -> Record:
        return record_of(self.evaluation(self.parameters(state), self.stream))
