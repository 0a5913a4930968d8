"""NaN is found here: the first step of a run that is not finite, replayed, and the first bad layer in it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from fnnet import backprop
from fnnet.cost import Cost
from fnnet.layers import LowPrecision, Sequential
from fnnet.optimizers.loss_scale import loss_scale
from fnnet.paths import named_leaves
from fnnet.training.callback import Callback, Run
from fnnet.training.placement import local
from fnnet.training.snapshot import Record, raw
from fnnet.training.state import TrainState
from fnnet.training.step import gradients, train_step
from fnnet.training.weights import save_weights
from fnnet.trees import all_finite
from fnnet.types import Array, Batch, Layer, Params

WHOLE = "the cost, when compiled"  # where no part is at fault by itself


class StopAtNonFinite(Callback):
    """Stop, with a RuntimeWarning, after an epoch whose cost or whose parameters are NaN or infinite.

    The updates since the last finite cost are then made again, one by one; ``found`` (and ``FitResult.non_finite``)
    names the step, the direction and the layer, and holds the batch. A run with checkpoints also saves it where they
    are. ``search=False`` does without this, and without the copy of the state before the last chunk of updates.
    ``fit`` uses this callback unless it is given one.
    """

    def __init__(self, *, search: bool = True) -> None:
        self.search, self.found = search, cast("NonFinite | None", None)

    def start(self, run: Run) -> None:
        self.run, self.found = run, None
        self.began_finite = bool(all_finite(run.before.state.params))

    def __call__(self, state: TrainState, record: Record) -> bool | None:
        if not math.isfinite(record["cost"]):
            fault = f"the cost of epoch {record['epoch']} is {record['cost']}"
        elif self.began_finite and not bool(all_finite(state.params)):  # no cost has seen what the last update made
            fault = f"the parameters after epoch {record['epoch']} are NaN or infinite in places"
        else:
            return None
        if self.search:
            self.found = first_non_finite(self.run)
        if self.found is not None and self.run.saver is not None:
            self.found.save(self.run.saver.directory / f"non_finite_{self.found.step}.safetensors")
        warnings.warn(
            f"fit: {fault}, training stops; lower the learning rate, "
            f"or check the initial parameters with fnnet.evaluate{'' if self.found is None else f'; {self.found}'}",
            RuntimeWarning,
            stacklevel=3,  # the caller of fit
        )
        return True


class NonFinite(NamedTuple):
    """The first update whose cost or step is NaN or infinite, with everything that is needed to make it again.

    ``direction`` is ``"forward"`` (a layer's output, the loss or the penalty), ``"backward"`` (a gradient, the cost
    itself being finite) or ``"update"`` (the optimizer's step, the gradient being finite); ``where`` names the layer,
    the first on that way. ``state`` is the state before the update, all finite unless it began otherwise; so
    ``cost(state.params, batch, key=state.network_key(), train=True)`` and its gradient show the fault.
    """

    step: int  # updates made before it
    direction: str
    where: str
    state: TrainState
    batch: Batch

    def __str__(self) -> str:
        return f"the first value that is not finite comes after {self.step} updates, {self.direction}, in {self.where}"

    def save(self, path: str | Path) -> None:
        """Write the parameters before the update, batch, key and step as safetensors (see ``load_weights``).

        In a run of several processes all of them must call it together, and the first writes.
        """
        x, y, *_ = self.batch
        tree = {"params": self.state.params, "x": x, "y": y, "key": raw(self.state.key), "step": self.state.step}
        tree = jax.tree.map(lambda leaf: local(leaf) if isinstance(leaf, jax.Array) else leaf, tree)
        if jax.process_index() == 0:
            save_weights(path, tree, {"direction": self.direction, "where": self.where})


def first_non_finite(run: Run) -> NonFinite | None:
    """Make the updates since ``run.before`` again, one by one, and return the first that is not finite, if any.

    The numbers are those of the compiled run up to rounding, for they are a function of the state and the batches.
    """

    def finite(params: Params, grads: Params, updates: Params) -> dict[str, Array]:
        return {"grads finite": all_finite(grads), "updates finite": all_finite(updates)}

    cost, engine, state = run.cost, run.value_and_grad, run.before.state
    step = jax.jit(train_step(cost, run.optimizer, engine, finite))
    for batch in run.replay():
        if run.augment is not None:
            batch = (*run.augment(state.augmentation_key(), batch[:2]), *batch[2:])
        after, metrics = step(state, batch)
        if not bool(jnp.isfinite(metrics["cost"])):
            return NonFinite(int(state.step), "forward", forward_fault(cost, state, batch), state, batch)
        if not bool(metrics["updates finite"]):
            if bool(metrics["grads finite"]):
                return NonFinite(int(state.step), "update", "the optimizer", state, batch)
            where = backward_fault(cost, engine, state, batch)
            return NonFinite(int(state.step), "backward", where, state, batch)
        state = after
    return None


class Passed(NamedTuple):
    """A layer and what went through it."""

    name: str
    layer: Layer
    params: Params
    x: Array
    key: Array | None
    y: Array


def passed_through(
    layer: Layer, params: Params, x: Array, key: Array | None, name: str = ""
) -> tuple[list[Passed], Array]:
    """Return the layers in the order of the forward pass, those of a ``Sequential`` one by one, and the output."""
    if isinstance(layer, LowPrecision):
        passed, y = passed_through(layer.layer, layer.low(params), layer.low(x), key, name)
        return passed, y.astype(layer.wide(x))
    if not isinstance(layer, Sequential):
        y = layer.apply(params, x, key=key, train=True)
        return [Passed(name or "model", layer, params, x, key, y)], y
    passed = []
    for i, (inner, p) in enumerate(zip(layer.layers, params, strict=True)):
        more, x = passed_through(inner, p, x, layer.key(key, i), f"{name}.{i}" if name else str(i))
        passed += more
    return passed, x


def forward_fault(cost: Cost, state: TrainState, batch: Batch) -> str:
    x, *target = batch
    passed, y = passed_through(cost.model, state.params, x, state.network_key())
    for each in passed:
        if not bool(all_finite(each.y)):
            return described(each)
    if not bool(jnp.isfinite(cost.mean_loss(y, *target))):
        return "the loss"
    return WHOLE if cost.penalty is None else "the penalty"


def backward_fault(
    cost: Cost, value_and_grad: Callable[[Any], Callable[..., Any]], state: TrainState, batch: Batch
) -> str:
    x, *target = batch
    passed, y = passed_through(cost.model, state.params, x, state.network_key())
    scale = loss_scale(state.opt_state)
    dy = jax.grad(lambda y: (1 if scale is None else scale) * cost.mean_loss(y, *target))(y)
    if not bool(all_finite(dy)):
        return "the loss"
    for each in reversed(passed):
        dparams, dy = pulled_back(each, dy, by_hand=value_and_grad is backprop.value_and_grad)
        if not bool(all_finite((dparams, dy))):
            return described(each)
    # No layer by itself: what the engine takes together, or the penalty. Its own gradient tells the tensors.
    _, grads = gradients(cost, value_and_grad, state, batch)
    return f"the gradient of {', '.join(not_finite(grads)) or WHOLE}"


def pulled_back(each: Passed, dy: Array, *, by_hand: bool) -> tuple[Any, Any]:
    """Return the layer's gradients, in the precision in which the layer computes."""
    if by_hand:
        _, pullback = backprop.vjp(each.layer, each.params, each.x, key=each.key, train=True)
    else:
        _, pullback = jax.vjp(lambda p, x: each.layer.apply(p, x, key=each.key, train=True), each.params, each.x)
    return pullback(dy.astype(each.y.dtype))


def described(passed: Passed) -> str:
    return f"layer {passed.name}, {passed.layer!r}"


def not_finite(tree: Params) -> list[str]:
    return [name for name, leaf in named_leaves(tree) if not bool(all_finite(leaf))]
