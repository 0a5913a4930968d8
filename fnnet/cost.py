"""The cost of a network: the mean loss over the examples plus a penalty on the weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from fnnet import checks
from fnnet.binding import name_of
from fnnet.configuration import configuration
from fnnet.mistakes import warn_of_mistakes, warn_of_pairs
from fnnet.shards import automatic
from fnnet.types import Array, Batch, Layer, Loss, Params, Penalty, Scalar, Shape

SUCH_AS = {"loss": "losses.squared_error", "penalty": "penalties.l2(1e-3)"}


@configuration
class Cost:
    """``cost(params, (x, y)) = 1/N Σ_n loss(model(params, x_n), y_n) + penalty(params)``, a scalar.

    ``model`` is a layer, ``loss`` a function ``(prediction, target) -> (N,)``, ``penalty`` a function of the parameters
    or None. Where a loss returns several numbers per example (sequences, images), ``N`` counts all of them. A cost
    compares by value and is hashable, so it can be a static argument of ``jax.jit``.

    A batch may hold weights, ``(x, y, weights)``: the mean is then ``Σ_n w_n ℓ_n / Σ_n w_n``. Weights have shape
    ``(N,)`` or the shape of the losses. They are at least 0, and at least one is above 0; others raise an error where
    their values are known. Inside ``jit`` they are not known: there a negative weight makes the result NaN, and the
    mean of nothing is 0. With the weights ``w[y]``, where ``w (C,)`` are weights of the classes, the mean is PyTorch's
    and ONNX's, which divides by the sum of these weights.

    An example of weight 0 is left out, in the value and in the gradient, even where its input, target or loss is
    infinite or NaN; the derivative with respect to its weight is 0. The model and the loss see the first example that
    counts in its place. (A layer that mixes examples, as ``BatchNorm`` does, sees that one once more.) A step of weight
    0 in a sequence that counts remains an input of the model, which may need it for the other steps; where it is
    infinite or NaN, the model sees 0.

    Where the target is ``ignore_label``, the loss has weight 0, whatever function it is. The function sees the label 0
    in its place.

    ``cost(params, batch, *, key=None, train=False, loss_scale=None)`` passes ``key`` and ``train`` on to the model. Its
    gradient is ``jax.grad(cost)`` or, by hand, ``fnnet.backprop.grad(cost)``. With a ``loss_scale`` ``S`` the result is
    ``S · cost`` in at least float32, so that every gradient comes out ``S`` times as large: gradients that would round
    to 0 in float16 survive (Micikevicius et al. 2018, section 3.2). Divide the value and the gradients by ``S``.
    """

    model: Layer
    loss: Loss
    penalty: Penalty | None = None
    ignore_label: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model, type) or not isinstance(self.model, Layer):
            raise TypeError(f"Cost: model is {self.model!r}; expected a layer with init and apply: Cost(model, loss)")
        for name, function in (("loss", self.loss), ("penalty", self.penalty)):
            if not callable(function) and not (name == "penalty" and function is None):
                raise TypeError(f"Cost: {name} is {function!r}; expected a function, such as fnnet.{SUCH_AS[name]}")
        label = self.ignore_label
        if label is not None and (isinstance(label, bool) or not isinstance(label, (int, np.integer))):
            raise TypeError(f"Cost: ignore_label is {label!r}; expected an integer, the label to leave out")
        warn_of_mistakes(self.model, self.loss)

    def __call__(
        self,
        params: Params,
        batch: Batch,
        *,
        key: Array | None = None,
        train: bool = False,
        loss_scale: Scalar | None = None,
    ) -> Array:
        def value(params: Params, batch: Batch, key: Array | None, loss_scale: Scalar | None) -> Array:
            x, target, weights = self.counted_batch("Cost", batch)
            prediction = self.model.apply(params, x, key=key, train=train)
            return self.total(self.mean_loss(prediction, target, weights), params, loss_scale)

        return automatic(value, PartitionSpec(), params, batch, key, loss_scale)

    def mean_loss(self, prediction: Array, target: Array, weights: Array | None = None) -> Array:
        """Return the mean of the loss over the examples, without the penalty."""
        each = self.loss_weights(target, weights, prediction.shape)
        if each is not None:
            prediction = constant_where(each == 0, prediction)
        losses = self.loss(prediction, self.known_labels(target))
        losses = checks.array("Cost", f"the result of {name_of(self.loss)}", losses)
        self.check_losses(losses, prediction, target)
        warn_of_pairs(self.loss, prediction, target)
        each = self.loss_weights(target, weights, losses.shape)
        if each is None:
            return jnp.mean(losses)
        weighted = jnp.where(each == 0, 0, losses * each.astype(losses.dtype))
        return weighted.sum() / above_zero(each.sum()).astype(losses.dtype)

    def check_losses(self, losses: Array, prediction: Array, target: Array) -> None:
        """Raise unless there is one number per example, or several, and none for a pair of examples."""
        place = f"Cost: {name_of(self.loss)} gave shape {losses.shape} for a prediction of shape {prediction.shape}"
        mend = "give the prediction an output axis, for example (N, 1)"
        if prediction.ndim > 1 and losses.ndim == 0:
            mend = "leave out its mean or sum over the examples, because the cost takes their mean"
        checks.require(
            losses.shape[:1] == prediction.shape[:1] and losses.ndim > 0,
            f"{place}; expected one number per example: {mend}",
        )
        examples = losses.shape[0]
        checks.require(
            losses.shape[1:2] != (examples,) or examples == 1 or examples in (*prediction.shape[1:], *target.shape[1:]),
            f"{place} and a target of shape {target.shape}, a number for every pair of examples, because the two were "
            f"broadcast; expected one number per example: reshape one of them",
        )
        checks.require(losses.size > 0, f"{place}; expected at least one number for each example")

    def counted_batch(self, place: str, batch: Any) -> tuple[Array, Array, Array | None]:
        """Return the inputs, the targets and the weights of a batch, and the first that counts for what does not.

        The model's derivative at an input that is NaN or infinite is NaN, and so is 0 times that. A target that does
        not count would be refused where a loss checks its values.
        """
        x, target, weights = split_weighted(place, batch)
        shapes = [a.shape for a in (weights, None if self.ignore_label is None else target) if a is not None]
        if not shapes:
            return x, target, weights
        checks.require(
            all(shape[:1] == x.shape[:1] for shape in shapes),
            f"Cost: weights has shape {shapes[0]}, which does not fit x of shape {x.shape}; expected {x.shape[:1]} or "
            f"the shape of the losses",
        )
        each: Any = self.loss_weights(target, weights, max(shapes, key=len))
        counts = each != 0
        if checks.is_float(x) and counts.ndim > 1 and x.shape[: counts.ndim] == counts.shape:
            x = jnp.where(counts.reshape(counts.shape + (1,) * (x.ndim - counts.ndim)) | jnp.isfinite(x), x, 0)
        x = first_for_the_others(any_in_each(counts), x)
        if weights is not None:
            with evaluated_if_known(target, weights):
                counts = weights != 0
                fits = target.shape[: counts.ndim] == counts.shape
                target = first_for_the_others(counts if fits else any_in_each(counts), target)
        return x, target, weights

    def total(self, mean_loss: Array, params: Params, loss_scale: Scalar | None = None) -> Array:
        """Return the mean loss plus the penalty, times the loss scale if there is one."""
        value = mean_loss
        if self.penalty is not None:
            value = value + jnp.asarray(self.penalty(params)).astype(value.dtype)
        return value if loss_scale is None else times_scale(value, loss_scale)

    def counted(self, target: Array, weights: Array | None = None, shape: Shape = ()) -> Array | None:
        """Return how many of the losses count in the mean, or the sum of their weights; None if all of them count once.

        ``shape`` is the shape of the losses. Without weights it may be left out.
        """
        each = self.loss_weights(target, weights, shape or (target.shape if weights is None else shape))
        return None if each is None else each.sum()

    def loss_weights(self, target: Array, weights: Array | None, shape: Shape) -> Array | None:
        """Return the weights of losses of this shape in their mean, or None if all of them count once."""
        if self.ignore_label is None:
            return None if weights is None else broadcast_weights("weights", weights, shape)
        kept = broadcast_weights("target", ~self.ignored(target), shape)
        return jnp.where(kept, 1 if weights is None else broadcast_weights("weights", weights, shape), 0)

    def ignored(self, target: Array) -> Array:
        """Return booleans that are True at ``ignore_label``; a label that the dtype cannot hold is never there."""
        if not checks.is_integer(target):
            raise TypeError(
                f"Cost: ignore_label is {self.ignore_label} but target has dtype {checks.dtype_of(target)}; "
                f"expected integer labels: leave ignore_label out, or give the examples to leave out the weight 0"
            )
        label, limits = int(self.ignore_label or 0), jnp.iinfo(target.dtype)
        if not limits.min <= label <= limits.max:
            return jnp.zeros(target.shape, bool)
        return target == jnp.asarray(label, target.dtype)

    def known_labels(self, target: Array) -> Array:
        """Return the target with the label 0, which every loss knows, in place of the ignored one."""
        if self.ignore_label is None:
            return target
        with evaluated_if_known(target):
            return jnp.where(self.ignored(target), 0, target)


def evaluated_if_known(*arrays: Array) -> AbstractContextManager[Any]:
    """Let what is computed of arrays that are known within a trace stay known, to be checked."""
    return jax.ensure_compile_time_eval() if all(map(checks.is_concrete, arrays)) else nullcontext()


def any_in_each(counts: Array) -> Array:
    """Return whether anything of an example counts, ``(N, ...) -> (N,)``."""
    return counts.reshape(counts.shape[0], -1).any(-1)


def first_for_the_others(counts: Array, a: Array) -> Array:
    """Return ``a`` with its first entry that counts, as a constant, in the place of those that do not.

    ``counts`` holds booleans for the first axes of ``a``. If nothing counts, 0 takes the place of all.
    """
    first = counts & (jnp.arange(counts.size).reshape(counts.shape) == counts.argmax())
    inner = (1,) * (a.ndim - counts.ndim)
    # The sum has a single term. It is a[i] in a form that is also known for arrays spread over devices.
    terms = jnp.where(first.reshape(first.shape + inner), jax.lax.stop_gradient(a), jnp.zeros_like(a))
    only = terms.sum(tuple(range(counts.ndim)), keepdims=True, dtype=a.dtype)
    return jnp.where(counts.reshape(counts.shape + inner), a, only)


def constant_where(condition: Array, a: Array) -> Array:
    """Return ``a`` with the derivative 0 where ``condition`` holds: what follows may be NaN there, as is 0 · NaN."""
    return jnp.where(condition, jax.lax.stop_gradient(a), a)


def broadcast_weights(name: str, weights: Array, shape: Shape) -> Array:
    """Return weights of this shape, given those of its first axes."""
    checks.require(
        weights.ndim > 0 and weights.shape == shape[: weights.ndim],
        f"Cost: {name} has shape {weights.shape}, which does not fit {shape}; "
        f"expected {shape[:1]} or the shape of the losses",
    )
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape)


def above_zero(counted: Array) -> Array:
    """Return a divisor: ``counted``, or 1 where nothing counts, so that a mean of nothing is 0."""
    return jnp.where(counted > 0, counted, 1)


def times_scale(x: Array, loss_scale: Scalar) -> Array:
    """Return ``loss_scale · x`` in at least float32, because the scale may be more than float16 holds."""
    wide = checks.at_least_float32(x)
    return x.astype(wide) * jnp.asarray(loss_scale).astype(wide)


def split_weighted(place: str, batch: Any) -> tuple[Array, Array, Array | None]:
    """Return the inputs, the targets and the weights of a batch; None if it has no weights."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 3:
        return *split_batch(place, batch), None
    x, target = split_batch(place, (batch[0], batch[1]))
    weights = checks.array(place, "weights", batch[2])
    checks.floating(place, "weights", weights)
    values = checks.known(weights)
    checks.require(
        values is None or bool((values >= 0).all() and (values > 0).any() and (values < np.inf).all()),
        f"{place}: weights has negative, infinite or NaN entries, or all of them are 0; expected finite numbers of at "
        f"least 0, and at least one above 0",
    )
    if values is not None:
        return x, target, weights
    # A weight of 0 is a constant: the formula has a derivative with respect to it, but that example is not there.
    return x, target, jnp.where(weights > 0, weights, jnp.where(weights == 0, 0, jnp.nan))


def split_batch(place: str, batch: Any) -> tuple[Array, Array]:
    """Return the inputs and targets of a batch, checked to have the same number of examples, at least one."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(f"{place}: batch is {checks.no_pair(batch)}; expected a pair (x, y) of inputs and targets")
    x, target = checks.array(place, "x", batch[0]), checks.array(place, "y", batch[1])
    checks.require(
        x.ndim > 0 and target.ndim > 0 and x.shape[0] == target.shape[0] and x.shape[0] > 0,
        f"{place}: x has shape {x.shape} and y has shape {target.shape}; expected the same number of examples, "
        f"at least one, on the first axis of both",
    )
    return x, target
