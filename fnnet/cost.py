"""The cost of a network: the mean loss over the examples plus a penalty on the weights."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from fnnet import checks
from fnnet.binding import name_of, unbind
from fnnet.types import Array, Batch, Layer, Loss, Params, Penalty

SUCH_AS = {"loss": "losses.squared_error", "penalty": "penalties.l2(1e-3)"}


@dataclass(frozen=True)
class Cost:
    """``cost(params, (x, y)) = 1/N Σ_n loss(model(params, x_n), y_n) + penalty(params)``, a scalar.

    Where a loss gives several numbers per example (sequences, images), ``N`` counts all of them; where it ignores a
    label, ``N`` counts the others.

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
        x, target = split_batch("Cost", batch)
        prediction = self.model.apply(params, x, key=key, train=train)
        value = self.mean_loss(prediction, target)
        return value if self.penalty is None else value + jnp.asarray(self.penalty(params)).astype(value.dtype)

    def mean_loss(self, prediction: Array, target: Array) -> Array:
        """The mean of the loss over the examples, without the penalty."""
        losses = self.loss(prediction, target)
        examples = prediction.shape[:1]
        checks.require(
            losses.shape[:1] == examples and losses.ndim > 0,
            f"Cost: {name_of(self.loss)} gave shape {losses.shape} for a prediction of shape {prediction.shape}; "
            f"expected one number per example: give the prediction an output axis, for example (N, 1)",
        )
        counted = self.counted(target)
        return jnp.mean(losses) if counted is None else losses.sum() / jnp.maximum(counted, 1).astype(losses.dtype)

    def counted(self, target: Array) -> Array | None:
        """How many of the targets count in the mean; None if the loss ignores no label: then all do."""
        _, options = unbind(self.loss)
        ignore_label = options.get("ignore_label")
        return None if ignore_label is None else (target != ignore_label).sum()


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
