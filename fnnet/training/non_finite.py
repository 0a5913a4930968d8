"""Where a training run stopped being finite: the first bad step, replayed, and the first bad layer in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import backprop
from fnnet.cost import Cost
from fnnet.layers import Sequential
from fnnet.optimizers import Optimizer
from fnnet.paths import named_leaves
from fnnet.training.snapshot import raw
from fnnet.training.state import TrainState
from fnnet.training.step import train_step
from fnnet.training.weights import save_weights
from fnnet.types import Array, Batch, Layer, Params


class NonFinite(NamedTuple):
    """The first update whose cost or step is NaN or infinite, with all that is needed to make it again.

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
        """Parameters before the update, batch, key and step, as safetensors (see ``load_weights``)."""
        x, y = self.batch
        tree = {"params": self.state.params, "x": x, "y": y, "key": raw(self.state.key), "step": self.state.step}
        save_weights(path, tree, {"direction": self.direction, "where": self.where})


def first_non_finite(
    cost: Cost,
    optimizer: Optimizer,
    value_and_grad: Callable[[Any], Callable[..., Any]],
    state: TrainState,
    batches: Iterable[Batch],
) -> NonFinite | None:
    """Makes the updates once more, one by one, up to the first that is not finite; None if they all are.

    The same numbers as in the compiled epoch up to rounding, for they are a function of the state and the batches.
    """

    def finite(params: Params, grads: Params, updates: Params) -> dict[str, Array]:
        return {"grads finite": all_finite(grads), "updates finite": all_finite(updates)}

    step = jax.jit(train_step(cost, optimizer, value_and_grad, finite))
    for i, batch in enumerate(batches):
        bad = not_finite(state.params) if i == 0 else []
        if bad:  # rows of an embedding, say, that no cost of an earlier epoch depended on
            where = f"an epoch before, whose cost did not show it: not finite is {', '.join(bad)}"
            return NonFinite(int(state.step), "update", where, state, batch)
        after, metrics = step(state, batch)
        if not bool(jnp.isfinite(metrics["cost"])):
            return NonFinite(int(state.step), "forward", forward_fault(cost, state, batch), state, batch)
        if not bool(metrics["updates finite"]):
            if bool(metrics["grads finite"]):
                return NonFinite(int(state.step), "update", "the optimizer", state, batch)
            where = backward_fault(cost, value_and_grad, state, batch)
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


def passes(layer: Layer, params: Params, x: Array, key: Array | None, name: str = "") -> Iterator[Passed]:
    """The layers in the order of the forward pass, those inside a ``Sequential`` one by one."""
    if not isinstance(layer, Sequential):
        y = layer.apply(params, x, key=key, train=True)
        yield Passed(name or "model", layer, params, x, key, y)
        return
    for i, (inner, p) in enumerate(zip(layer.layers, params, strict=True)):
        for passed in passes(inner, p, x, layer.key(key, i), f"{name}.{i}" if name else str(i)):
            yield passed
            x = passed.y


def forward_fault(cost: Cost, state: TrainState, batch: Batch) -> str:
    x, target = batch
    y = x
    for passed in passes(cost.model, state.params, x, state.network_key()):
        y = passed.y
        if not bool(all_finite(y)):
            return described(passed)
    return "the loss" if not bool(jnp.isfinite(cost.mean_loss(y, target))) else "the penalty"


def backward_fault(
    cost: Cost, value_and_grad: Callable[[Any], Callable[..., Any]], state: TrainState, batch: Batch
) -> str:
    x, target = batch
    passed = list(passes(cost.model, state.params, x, state.network_key()))
    dy = jax.grad(cost.mean_loss)(passed[-1].y, target)
    if not bool(all_finite(dy)):
        return "the loss"
    for each in reversed(passed):
        dparams, dy = pulled_back(each, dy, by_hand=value_and_grad is backprop.value_and_grad)
        if not bool(all_finite((dparams, dy))):
            return described(each)
    # No layer by itself: what the engine takes together, or the penalty. Its own gradient tells the tensors.
    _, grads = value_and_grad(cost)(state.params, batch, key=state.network_key(), train=True)
    return f"the gradient of {', '.join(not_finite(grads)) or 'the cost, when compiled'}"


def pulled_back(each: Passed, dy: Array, *, by_hand: bool) -> tuple[Any, Any]:
    if by_hand:
        _, pullback = backprop.vjp(each.layer, each.params, each.x, key=each.key, train=True)
        return pullback(dy)
    _, autodiff = jax.vjp(lambda p, x: each.layer.apply(p, x, key=each.key, train=True), each.params, each.x)
    return autodiff(dy)


def described(passed: Passed) -> str:
    return f"layer {passed.name}, {passed.layer!r}"


def not_finite(tree: Params) -> list[str]:
    return [name for name, leaf in named_leaves(tree) if not bool(all_finite(leaf))]


def all_finite(tree: Any) -> Array:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in floats] or [jnp.array(True)]).all()
