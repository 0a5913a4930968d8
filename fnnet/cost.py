"""The cost of a network: the mean loss over the examples plus a penalty on the weights."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from fnnet import checks
from fnnet.binding import name_of, unbind
from fnnet.configuration import configuration
from fnnet.types import Array, Batch, Layer, Loss, Params, Penalty, Shape

SUCH_AS = {"loss": "losses.squared_error", "penalty": "penalties.l2(1e-3)"}


@configuration
class Cost:
    """``cost(params, (x, y)) = 1/N Σ_n loss(model(params, x_n), y_n) + penalty(params)``, a scalar.

    Where a loss gives several numbers per example (sequences, images), ``N`` counts all of them; where it ignores a
    label, ``N`` counts the others.

    A batch may have weights as a third part, ``(x, y, weights)``: then ``Σ_n w_n ℓ_n / Σ_n w_n + penalty``. Weights
    ``(N,)``, or of the shape of the losses, are at least 0, and with a weight of 0 it is as if the example were not
    there, in the gradient as in the value (unless a layer mixes examples, as ``BatchNorm`` does).

    ``model`` is a layer, ``loss`` a function ``(prediction, target) -> (N,)``, ``penalty`` a function of the
    parameters or None. A cost compares by value and is hashable, so it can be a static argument of ``jax.jit``.

    ``cost(params, (x, y), *, key=None, train=False)`` passes ``key`` and ``train`` on to the model; its gradient is
    ``jax.grad(cost)`` or, by hand, ``fnnet.backprop.grad(cost)``.
    """

    model: Layer
    loss: Loss
    penalty: Penalty | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model, type) or not isinstance(self.model, Layer):
            raise TypeError(f"Cost: model is {self.model!r}; expected a layer with init and apply: Cost(model, loss)")
        for name, part in (("loss", self.loss), ("penalty", self.penalty)):
            if not callable(part) and not (name == "penalty" and part is None):
                raise TypeError(f"Cost: {name} is {part!r}; expected a function, such as fnnet.{SUCH_AS[name]}")

    def __call__(self, params: Params, batch: Batch, *, key: Array | None = None, train: bool = False) -> Array:
        x, target, weights = split_weighted("Cost", batch)
        prediction = self.model.apply(params, x, key=key, train=train)
        value = self.mean_loss(prediction, target, weights)
        return value if self.penalty is None else value + jnp.asarray(self.penalty(params)).astype(value.dtype)

    def mean_loss(self, prediction: Array, target: Array, weights: Array | None = None) -> Array:
        """The mean of the loss over the examples, without the penalty."""
        losses = self.loss(prediction, target)
        examples = prediction.shape[:1]
        checks.require(
            losses.shape[:1] == examples and losses.ndim > 0,
            f"Cost: {name_of(self.loss)} gave shape {losses.shape} for a prediction of shape {prediction.shape}; "
            f"expected one number per example: give the prediction an output axis, for example (N, 1)",
        )
        if weights is not None:
            losses = losses * spread(weights, losses.shape).astype(losses.dtype)
        counted = self.counted(target, weights, losses.shape)
        return jnp.mean(losses) if counted is None else losses.sum() / above_zero(counted).astype(losses.dtype)

    def counted(self, target: Array, weights: Array | None = None, shape: Shape = ()) -> Array | None:
        """How many of the losses count in the mean, or what these weigh; None if all of them count once.

        ``shape`` is that of the losses. Those of an ignored label do not count.
        """
        _, options = unbind(self.loss)
        ignore_label = options.get("ignore_label")
        if weights is None:
            return None if ignore_label is None else (target != ignore_label).sum()
        weights = spread(weights, shape)
        return (weights if ignore_label is None else jnp.where(target == ignore_label, 0, weights)).sum()


def spread(weights: Array, shape: Shape) -> Array:
    """Weights of the first axes of losses of this shape as weights of all of them."""
    checks.require(
        weights.ndim > 0 and weights.shape == shape[: weights.ndim],
        f"Cost: weights has shape {weights.shape} but the losses {shape}; expected {shape[:1]} or the losses' shape",
    )
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)


def above_zero(counted: Array) -> Array:
    """A divisor: where nothing counts, the sum is 0 and so is the mean."""
    return jnp.where(counted > 0, counted, 1)


def split_weighted(place: str, batch: Any) -> tuple[Array, Array, Array | None]:
    """The inputs, the targets and, if there are, the weights of a batch."""
    parts: Any = batch
    if not isinstance(batch, (tuple, list)) or len(batch) != 3:
        return *split_batch(place, parts), None
    x, target = split_batch(place, parts[:2])
    weights = jnp.asarray(batch[2])
    checks.floating(place, "weights", weights)
    return x, target, weights


def split_batch(place: str, batch: Batch) -> tuple[Array, Array]:
    """The inputs and targets of a batch, checked to have the same number of examples, at least one."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(f"{place}: batch is {type(batch).__name__}; expected a pair (x, y) of inputs and targets")
    x, target = jnp.asarray(batch[0]), jnp.asarray(batch[1])
    checks.require(
        x.ndim > 0 and target.ndim > 0 and len(x) == len(target) and len(x) > 0,
        f"{place}: x has shape {x.shape} and y has shape {target.shape}; expected the same number of examples, "
        f"at least one, on the first axis of both",
    )
    return x, target
