"""The training engine: a chunk of batches, or a whole epoch, as one program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.cost import Cost, split_batch
from fnnet.cpu.vectors import scan
from fnnet.data.augment import Augmentation
from fnnet.data.chunks import Chunk
from fnnet.data.shuffling import order_of_examples
from fnnet.data.stream import check_batch_size
from fnnet.optimizers import Optimizer
from fnnet.training.state import TrainState
from fnnet.training.step import COUNTED, Measure, Probe, train_step
from fnnet.types import Batch

Numbers = dict[str, Any]
Epoch = Callable[[TrainState, Batch], tuple[TrainState, Numbers]]
NEXT_TO_NOTHING = 1e-30


def train_chunk(
    cost: Cost,
    optimizer: Optimizer,
    *,
    value_and_grad: Callable[[Any], Callable[..., Any]] = jax.value_and_grad,
    measure: Measure | None = None,
    augment: Augmentation | None = None,
    probes: Sequence[Probe] = (),
) -> Callable[[TrainState, Chunk], tuple[TrainState, Numbers]]:
    """Return ``run(state, chunk) -> (state, numbers)``: ``train_step`` for each batch of a chunk, one after the other.

    ``numbers`` are the metrics of ``train_step``, each ``(K,)`` for the ``K`` batches of the chunk.
    """
    step = train_step(cost, optimizer, value_and_grad, measure, augment, probes)

    def run(state: TrainState, chunk: Chunk) -> tuple[TrainState, Numbers]:
        if chunk.updates == 1:
            state, numbers = step(state, next(chunk.batches()))
            return state, jax.tree.map(lambda number: number[None], numbers)
        return scan(lambda state, entries: step(state, chunk.batch(entries)), state, chunk.scanned)

    return run


def train_epoch(
    cost: Cost,
    optimizer: Optimizer,
    *,
    batch_size: int,
    value_and_grad: Callable[[Any], Callable[..., Any]] = jax.value_and_grad,
    shuffle: bool = True,
    drop_last: bool = False,
    measure: Measure | None = None,
    augment: Augmentation | None = None,
) -> Epoch:
    """Return ``epoch(state, (x, y)) -> (state, metrics)``: every example once, ``batch_size`` at a time.

    A pure function that shuffles and scans ``train_step``. Under ``jax.jit`` a whole epoch is one program; ``vmap`` it
    over keys or hyper-parameters to train many networks at once. The examples that are left over at the end make a
    smaller last batch, which ``drop_last`` leaves out.

    ``metrics["cost"]`` is the mean over the counted examples of the cost as it was when each was used, in at least
    float32; ``metrics["step_costs"]`` has one number per update. The numbers of ``measure``, as in ``train_step``, are
    means over the updates. ``augment(key, (x, y))`` changes each batch at random before it is used, as in
    ``train_step``.
    """
    checks.positive_integer("train_epoch", "batch_size", batch_size)
    run = train_chunk(cost, optimizer, value_and_grad=value_and_grad, measure=measure, augment=augment)

    def epoch(state: TrainState, data: Batch) -> tuple[TrainState, Numbers]:
        x, y = split_batch("train_epoch", data)
        check_batch_size("train_epoch", batch_size, len(x))
        full, left = divmod(len(x), batch_size)
        order = order_of_examples(state.order_key(), len(x), shuffle)
        state, numbers = run(state, Chunk(x, y, order[: full * batch_size].reshape(full, batch_size)))
        if left and not drop_last:
            state, last = run(state, Chunk(x, y, order[full * batch_size :][None]))
            numbers = jax.tree.map(lambda *parts: jnp.concatenate(parts), numbers, last)
        means = {name: total / weight for name, (total, weight) in totals(numbers).items()}
        return state, means | {"step_costs": numbers["cost"]}

    return epoch


def totals(numbers: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return by name the weighted sum of the numbers ``(K,)`` of some updates, and the sum of the weights.

    Costs weigh as much as their batches have counted examples, all other numbers as 1. They are added in at least
    float32, as the sum over an epoch would overflow in float16. Arrays may be those of JAX or of NumPy.
    """
    counted = numbers[COUNTED]
    # Without any, costs are those of the penalty alone. They weigh next to nothing, because other updates may count.
    counted = counted + (counted.sum() == 0).astype(counted.dtype) * NEXT_TO_NOTHING

    def total(name: str, values: Any) -> tuple[Any, Any]:
        values = values.astype(checks.at_least_float32(values)) if checks.is_float(values) else values
        weights = (counted if name == "cost" else counted * 0 + 1).astype(values.dtype)
        return (values * weights).sum(), weights.sum()

    return {name: total(name, values) for name, values in numbers.items() if name != COUNTED}
