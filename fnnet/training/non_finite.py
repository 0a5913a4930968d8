"""Where a training run stopped being finite: the first bad step, replayed, and the first bad layer in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from fnnet import backprop, checks
from fnnet.cost import Cost
from fnnet.cost import times_scale as times
from fnnet.layers import LowPrecision, Sequential
from fnnet.optimizers import Optimizer
from fnnet.paths import named_leaves
from fnnet.training.snapshot import raw
from fnnet.training.state import TrainState
from fnnet.training.step import scaled, train_step
from fnnet.training.weights import save_weights
from fnnet.types import Array, Batch, Layer, Params

WHOLE = "the cost, when compiled"  # no part of it by itself


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
        """Parameters before the update, batch, key and step, as safetensors (see ``load_weights``).

        In a run of several processes all of them call it together, and the first writes.
        """
        x, y = self.batch
        tree = {"params": self.state.params, "x": x, "y": y, "key": raw(self.state.key), "step": self.state.step}
        tree = jax.tree.map(gathered, tree)
        if jax.process_index() == 0:
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
    scale: Any  # of the gradient, in a LowPrecision


def passes(
    layer: Layer, params: Params, x: Array, key: Array | None, name: str = "", scale: Any = None
) -> Generator[Passed, None, Array]:
    """The layers in the order of the forward pass, those inside a ``Sequential`` one by one, and the output."""
    if isinstance(layer, LowPrecision):
        y = yield from passes(layer.layer, layer.low(params), layer.low(x), key, name, layer.scale)
        return y.astype(layer.wide(x))
    if not isinstance(layer, Sequential):
        y = layer.apply(params, x, key=key, train=True)
        yield Passed(name or "model", layer, params, x, key, y, scale)
        return y
    for i, (inner, p) in enumerate(zip(layer.layers, params, strict=True)):
        x = yield from passes(inner, p, x, layer.key(key, i), f"{name}.{i}" if name else str(i), scale)
    return x


def passed_through(layer: Layer, params: Params, x: Array, key: Array | None) -> tuple[list[Passed], Array]:
    """All of them, and the output."""
    passed, way = [], passes(layer, params, x, key)
    while True:
        try:
            passed.append(next(way))
        except StopIteration as end:
            return passed, end.value


def forward_fault(cost: Cost, state: TrainState, batch: Batch) -> str:
    x, target = batch
    passed, y = passed_through(cost.model, state.params, x, state.network_key())
    for each in passed:
        if not bool(all_finite(each.y)):
            return described(each)
    if not bool(jnp.isfinite(cost.mean_loss(y, target))):
        return "the loss"
    return WHOLE if cost.penalty is None else "the penalty"


def backward_fault(
    cost: Cost, value_and_grad: Callable[[Any], Callable[..., Any]], state: TrainState, batch: Batch
) -> str:
    x, target = batch
    passed, y = passed_through(scaled(cost, state.opt_state).model, state.params, x, state.network_key())
    dy = jax.grad(cost.mean_loss)(y, target)
    if not bool(all_finite(dy)):
        return "the loss"
    for each in reversed(passed):
        dparams, dy = pulled_back(each, dy, by_hand=value_and_grad is backprop.value_and_grad)
        if not bool(all_finite((dparams, dy))):
            return described(each)
    # No layer by itself: what the engine takes together, or the penalty. Its own gradient tells the tensors.
    _, grads = value_and_grad(scaled(cost, state.opt_state))(state.params, batch, key=state.network_key(), train=True)
    return f"the gradient of {', '.join(not_finite(grads)) or WHOLE}"


def pulled_back(each: Passed, dy: Array, *, by_hand: bool) -> tuple[Any, Any]:
    """The layer's gradients as they come, times its scale; that of the inputs goes on without it."""
    wide = dy.dtype
    dy = (dy if each.scale is None else times(dy, each.scale)).astype(each.y.dtype)
    if by_hand:
        _, pullback = backprop.vjp(each.layer, each.params, each.x, key=each.key, train=True)
    else:
        _, pullback = jax.vjp(lambda p, x: each.layer.apply(p, x, key=each.key, train=True), each.params, each.x)
    dparams, dx = pullback(dy)
    if checks.is_float(dx):
        dx = dx.astype(wide) if each.scale is None else times(dx.astype(wide), 1 / jnp.asarray(each.scale))
    return dparams, dx


def gathered(leaf: Any) -> Any:
    """Whole in this process, of whose devices others may have parts."""
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return leaf
    return multihost_utils.process_allgather(leaf, tiled=True)


def described(passed: Passed) -> str:
    return f"layer {passed.name}, {passed.layer!r}"


def not_finite(tree: Params) -> list[str]:
    return [name for name, leaf in named_leaves(tree) if not bool(all_finite(leaf))]


def all_finite(tree: Any) -> Array:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in floats] or [jnp.array(True)]).all()
