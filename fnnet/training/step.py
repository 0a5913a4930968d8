"""One update of the parameters from one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from fnnet.cost import Cost
from fnnet.optimizers import Optimizer, apply_updates
from fnnet.training.state import TrainState
from fnnet.types import Array, Batch

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]


def train_step(
    cost: Cost, optimizer: Optimizer, value_and_grad: Callable[[Any], Callable[..., Any]] = jax.value_and_grad
) -> Step:
    """``step(state, (x, y)) -> (state, {"cost": ...})``, a pure function: ``jit``, ``scan``, ``vmap`` and shard it.

    The cost reported is that before the update. ``value_and_grad`` chooses the engine of the gradients:
    ``jax.value_and_grad``, ``fnnet.backprop.value_and_grad`` or any function with their signature. Works with fnnet's
    and with optax's optimizers.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        value, grads = value_and_grad(cost)(state.params, batch, key=state.network_key(), train=True)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = apply_updates(state.params, updates)
        return TrainState(params, opt_state, state.step + 1, state.key), {"cost": value}

    return step
