"""One update of the parameters from one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fnnet.checks import at_least_float32, require
from fnnet.cost import Cost
from fnnet.data.augment import Augmentation
from fnnet.optimizers import Optimizer, apply_updates
from fnnet.optimizers.base import kind_of
from fnnet.optimizers.loss_scale import loss_scale
from fnnet.optimizers.wrappers import weighed
from fnnet.training.state import TrainState
from fnnet.types import Array, Batch, Params

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]]
Measure = Callable[[Params, Params, Params], dict[str, Array]]  # (params, grads, updates) -> numbers by name
Probe = Callable[..., Any]  # (cost, value_and_grad, before, batch, after, value) -> a pytree of arrays
COUNTED, PROBED = "counted", "probed"
# The names of fit's own numbers.
TAKEN = {"cost", COUNTED, PROBED, "step_costs", "epoch", "step", "seconds", "compile_seconds", "reading_seconds"}


def train_step(
    cost: Cost,
    optimizer: Optimizer,
    value_and_grad: Callable[[Any], Callable[..., Any]] = jax.value_and_grad,
    measure: Measure | None = None,
    augment: Augmentation | None = None,
    probes: Sequence[Probe] = (),
) -> Step:
    """Return ``step(state, (x, y)) -> (state, metrics)``, a pure function: ``jit``, ``scan``, ``vmap`` and shard it.

    ``metrics["cost"]`` is the cost before the update, ``metrics["counted"]`` the number of examples (or of labels that
    are not ignored, or the sum of their weights) that it is a mean over. A batch may be ``(x, y, weights)``.

    ``value_and_grad`` chooses the engine of the gradients: ``jax.value_and_grad``, ``fnnet.backprop.value_and_grad`` or
    any function with their signature. Optimizers may be fnnet's or optax's. Where the optimizer is in a
    ``dynamic_loss_scale``, the cost is computed times that scale, and the gradients are divided by it.

    ``measure(params, grads, updates)`` adds numbers of its own to the metrics, such as
    ``fnnet.inspect.update_ratios``; ``params`` are those before the update.

    ``augment(key, (x, y)) -> (x, y)`` changes the batch at random before it is used, with a key made of the run's key
    and the step, such as ``fnnet.data.augment.inputs(fnnet.data.augment.random_flip)``.

    Each of ``probes`` is called with ``(cost, value_and_grad, before, batch, after, value)``, where ``before`` and
    ``after`` are the states around the update and ``value`` the cost of the batch, and returns a pytree of arrays;
    ``metrics["probed"]`` is the tuple of these. They see only what the step returns anyway: the gradient would have to
    be stored for them, and XLA would then round the arithmetic around it in another way.
    """

    kind_of("train_step", optimizer)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        if augment is not None:
            batch = (*augment(state.augmentation_key(), batch[:2]), *batch[2:])
        value, grads = gradients(cost, value_and_grad, state, batch)
        count = counted(cost, batch)
        updates, opt_state = optimizer.update(grads, weighed(state.opt_state, count), state.params)
        params = apply_updates(state.params, updates)
        metrics: dict[str, Any] = {"cost": value, COUNTED: count}
        if measure is not None:
            metrics |= measured("train_step", measure(state.params, grads, updates))
        after = TrainState(params, opt_state, state.step + 1, state.key)
        if probes:
            metrics[PROBED] = tuple(probe(cost, value_and_grad, state, batch, after, value) for probe in probes)
        return after, metrics

    return step


def gradients(cost: Cost, value_and_grad: Callable[[Any], Callable[..., Any]], state: TrainState, batch: Batch) -> Any:
    """Return the cost and its gradients at a state, computed with the loss scale that its optimizer keeps, if any."""
    options: dict[str, Any] = {"key": state.network_key(), "train": True}
    scale = loss_scale(state.opt_state)
    if scale is None:
        return value_and_grad(cost)(state.params, batch, **options)
    scaled = value_and_grad(cost)(state.params, batch, **options, loss_scale=scale)
    return jax.tree.map(lambda a: (a.astype(at_least_float32(a)) / scale).astype(a.dtype), scaled)


def counted(cost: Cost, batch: Any) -> Array:
    """Return what the cost of a batch is a mean over."""
    target, weights = batch[1], batch[2] if len(batch) == 3 else None
    shape = target.shape if cost.ignore_label is not None or weights is None else weights.shape
    count = cost.counted(target, weights, shape)
    return jnp.float32(len(target)) if count is None else jnp.asarray(count, jnp.float32)


def measured(place: str, numbers: dict[str, Array]) -> dict[str, Array]:
    for name, number in numbers.items():
        require(name not in TAKEN, f"{place}: measure gives a number called {name!r}; this name is taken, use another")
        require(
            jnp.ndim(number) == 0,
            f"{place}: measure gives {name!r} with shape {jnp.shape(number)}; expected a single number",
        )
    return {name: jnp.asarray(number) for name, number in numbers.items()}
