"""One update of the parameters from one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from fnnet.checks import require
from fnnet.cost import Cost
from fnnet.data.augment import Augmentation
from fnnet.layers import LowPrecision
from fnnet.optimizers import Optimizer, apply_updates
from fnnet.optimizers.loss_scale import loss_scale
from fnnet.training.state import TrainState
from fnnet.types import Array, Batch, Params

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]
Measure = Callable[[Params, Params, Params], dict[str, Array]]  # (params, grads, updates) -> numbers by name
TAKEN = frozenset(
    {"cost", "step_costs", "epoch", "step", "seconds", "compile_seconds", "data_seconds", "reading_seconds"}
)  # names of fit's own numbers


def train_step(
    cost: Cost,
    optimizer: Optimizer,
    value_and_grad: Callable[[Any], Callable[..., Any]] = jax.value_and_grad,
    measure: Measure | None = None,
    augment: Augmentation | None = None,
) -> Step:
    """``step(state, (x, y)) -> (state, {"cost": ...})``, a pure function: ``jit``, ``scan``, ``vmap`` and shard it.

    The cost reported is that before the update. ``value_and_grad`` chooses the engine of the gradients:
    ``jax.value_and_grad``, ``fnnet.backprop.value_and_grad`` or any function with their signature. Works with fnnet's
    and with optax's optimizers.

    ``measure(params, grads, updates)`` adds numbers of its own to the metrics, such as
    ``fnnet.inspect.update_ratios``; ``params`` are those before the update.

    ``augment(key, (x, y)) -> (x, y)`` changes the batch at random before it is used, with a key of the run's key and
    the step, such as ``fnnet.data.augment.inputs(fnnet.data.augment.random_flip)``.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        if augment is not None:
            batch = (*augment(state.augmentation_key(), batch[:2]), *batch[2:])
        value, grads = value_and_grad(scaled(cost, state.opt_state))(
            state.params, batch, key=state.network_key(), train=True
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = apply_updates(state.params, updates)
        metrics = {"cost": value}
        if measure is not None:
            metrics |= measured("train_step", measure(state.params, grads, updates))
        return TrainState(params, opt_state, state.step + 1, state.key), metrics

    return step


def scaled(cost: Cost, opt_state: Any) -> Cost:
    """The cost with the scale that ``optimizers.dynamic_loss_scale`` keeps, for the backward pass of its model."""
    scale = loss_scale(opt_state)
    if scale is None:
        return cost
    if not isinstance(cost.model, LowPrecision):
        raise TypeError(
            f"train_step: the optimizer has a dynamic_loss_scale but the model is {cost.model!r}; "
            f"put it into one: Cost(fnnet.LowPrecision(model, 'float16'), ...)"
        )
    return replace(cost, model=replace(cost.model, scale=scale))


def measured(place: str, numbers: dict[str, Array]) -> dict[str, Array]:
    for name, number in numbers.items():
        require(name not in TAKEN, f"{place}: measure gives a number called {name!r}; this name is taken, use another")
        require(
            jnp.ndim(number) == 0,
            f"{place}: measure gives {name!r} with shape {jnp.shape(number)}; expected a single number",
        )
    return numbers
