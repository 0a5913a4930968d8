"""One pass over the examples as a single program."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.cost import Cost, split_batch
from fnnet.data.augment import Augmentation
from fnnet.optimizers import Optimizer
from fnnet.training.order import shuffled
from fnnet.training.state import TrainState
from fnnet.training.step import Measure, train_step
from fnnet.types import Array, Batch

VECTOR_UNIT = 16  # float32 numbers in the widest vector registers

Epoch = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]


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
    """``epoch(state, (x, y)) -> (state, metrics)``: every example once, ``batch_size`` at a time.

    A pure function that shuffles and scans ``train_step``: under ``jax.jit`` a whole epoch is one program; ``vmap`` it
    over keys or hyper-parameters to train many networks at once. The examples left over at the end are a smaller last
    batch, or left out with ``drop_last``.

    ``metrics["cost"]`` is the mean over the examples of the cost as it was when each was used, in at least float32;
    ``metrics["step_costs"]`` has one number per update. The numbers of ``measure``, as in ``train_step``, are means
    over the updates. ``augment(key, (x, y))`` changes each batch at random on its way, as in ``train_step``.
    """
    checks.positive_integer("train_epoch", "batch_size", batch_size)
    step = train_step(cost, optimizer, value_and_grad, measure, augment)

    def epoch(state: TrainState, data: Batch) -> tuple[TrainState, dict[str, Array]]:
        x, y = split_batch("train_epoch", data)
        check_batch_size("train_epoch", batch_size, len(x))
        steps, left = divmod(len(x), batch_size)
        order = example_order(state, len(x), shuffle)

        def on_rows(state: TrainState, rows: Array) -> tuple[TrainState, dict[str, Array]]:
            return step(state, (take_rows(x, rows), take_rows(y, rows)))

        full = order[: steps * batch_size].reshape(steps, batch_size)
        state, metrics = jax.lax.platform_dependent(
            state, full, cpu=partial(scan_as_vectors, on_rows), default=partial(jax.lax.scan, on_rows)
        )
        mean = widened(metrics["cost"]).mean()
        if left and not drop_last:
            state, last = on_rows(state, order[steps * batch_size :])
            mean = (mean * (steps * batch_size) + widened(last["cost"]) * left) / len(x)
            metrics = {name: jnp.append(numbers, last[name]) for name, numbers in metrics.items()}
        costs = metrics.pop("cost")
        return state, {"cost": mean, "step_costs": costs} | {name: each.mean() for name, each in metrics.items()}

    return epoch


def example_order(state: TrainState, examples: int, shuffle: bool) -> Array:
    """The order of the examples in an epoch that starts with ``state``."""
    return shuffled(state.order_key(), examples) if shuffle else jnp.arange(examples)


def scan_as_vectors(
    step: Callable[[Any, Any], tuple[Any, Any]],
    state: Any,
    steps: Any,
    scan: Callable[..., tuple[Any, Any]] = jax.lax.scan,
) -> tuple[Any, Any]:
    """``scan(step, state, steps)``, with narrow matrices of the state carried from step to step as vectors.

    The same numbers but for rounding, faster on CPU: XLA carries out the optimizer's arithmetic, which is entry by
    entry, in the shape in which the state is carried, and its loops over a last axis of 30, say, leave most of the
    vector unit idle, those over 16 most of the time between two vectors. On other platforms a change of shape may cost
    a copy, or undo the sharding of a matrix.
    """

    def narrow(a: Array) -> bool:
        return a.ndim > 1 and (a.shape[-1] % VECTOR_UNIT > 0 or a.shape[-1] == VECTOR_UNIT)

    def vectors(tree: Any) -> Any:
        return jax.tree.map(lambda a: a.reshape(-1) if narrow(a) else a, tree)

    def matrices(tree: Any) -> Any:
        return jax.tree.map(lambda a, like: a.reshape(like.shape), tree, state)

    def on_vectors(carry: Any, xs: Any) -> tuple[Any, Any]:
        carry, ys = step(matrices(carry), xs)
        return vectors(carry), ys

    carry, ys = scan(on_vectors, vectors(state), steps)
    return matrices(carry), ys


def widened(numbers: Array) -> Array:
    """In at least float32: a sum over an epoch would overflow in float16."""
    return numbers.astype(checks.at_least_float32(numbers)) if checks.is_float(numbers) else numbers


def take_rows(x: Array, rows: Array) -> Array:
    """``x[rows]`` for rows known to exist, so that nothing is spent on checking them."""
    return x.at[rows].get(mode="promise_in_bounds")


def check_batch_size(place: str, batch_size: int, examples: int) -> None:
    checks.require(
        batch_size <= examples,
        f"{place}: batch_size is {batch_size} but there are only {examples} examples; "
        f"use a batch size of at most {examples} (the whole set at once)",
    )
