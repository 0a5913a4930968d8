"""Some updates in a row of an epoch as a single program."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.training.epoch import example_order, take_rows, widened
from fnnet.training.state import TrainState
from fnnet.training.step import Step
from fnnet.types import Array, Batch

Metrics = dict[str, Array]


def train_part(
    step: Step,
    state: TrainState,
    data: Batch,
    start: Array,
    end: Array,
    *,
    batch_size: int,
    shuffle: bool,
    drop_last: bool,
) -> tuple[TrainState, Metrics]:
    """The updates ``start .. end − 1`` of an epoch.

    A pure function, one program for every part: ``start`` and ``end`` are numbers in it. Parts one after the other are
    the epoch of ``train_epoch`` up to rounding; the metrics are means over the part, the cost's over its examples.
    """
    x, y = data
    full, left = divmod(len(x), batch_size)
    order = example_order(state._replace(step=state.step - start), len(x), shuffle)

    def on_rows(carry: tuple[TrainState, Metrics], rows: Array) -> tuple[TrainState, Metrics]:
        state, sums = carry
        state, metrics = step(state, (take_rows(x, rows), take_rows(y, rows)))
        metrics |= {"cost": widened(metrics["cost"]) * len(rows)}
        return state, {name: total + metrics[name].astype(total.dtype) for name, total in sums.items()}

    def on_batch(i: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        return on_rows(carry, jax.lax.dynamic_slice_in_dim(order, i * batch_size, batch_size))

    shapes = jax.eval_shape(step, state, (x[:batch_size], y[:batch_size]))[1]
    carry = state, {name: jnp.zeros((), checks.at_least_float32(metric)) for name, metric in shapes.items()}
    carry = jax.lax.fori_loop(start, jnp.minimum(end, full), on_batch, carry)
    examples = (jnp.minimum(end, full) - start) * batch_size
    if left and not drop_last:
        rows = order[full * batch_size :]
        carry = jax.lax.cond(end > full, lambda carry: on_rows(carry, rows), lambda carry: carry, carry)
        examples = examples + jnp.where(end > full, left, 0)
    state, sums = carry
    counts = {name: examples if name == "cost" else end - start for name in sums}
    return state, {name: total / counts[name].astype(total.dtype) for name, total in sums.items()}
