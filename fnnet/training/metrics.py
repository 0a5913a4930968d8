"""Metrics: how well predictions meet their targets.

Most are pure functions ``metric(prediction, target) -> (N,)``, one number per example, as the losses are; ``evaluate``
gives their means. What is no mean over examples is a ``Metric``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.losses.targets import one_hot
from fnnet.types import Array


def added(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


class Metric(NamedTuple):
    """A metric that is not a mean over examples, exact over any division of the data into batches.

    ``statistics(prediction, target, weights)`` is a pytree of arrays for a batch; ``weights (N,)`` are 1 for examples
    and 0 for what only fills a batch up. ``merge(a, b)`` is that of two batches together, their sum unless given;
    zeros must be that of no examples. ``result(statistics)`` is the metric.
    """

    statistics: Callable[[Array, Array, Array], Any]
    result: Callable[[Any], Array]
    merge: Callable[[Any, Any], Any] = added


def accuracy(prediction: Array, target: Array) -> Array:
    """1 where the largest entry of the prediction is at the label, else 0; ties go to the first.

    Shapes ``(N, C)`` with ``C`` at least 2 (probabilities or logits) with integer labels ``(N,)`` or distributions
    ``(N, C)``, ``-> (N,)``.
    """
    prediction, labels = with_labels("accuracy", prediction, target)
    return (prediction.argmax(-1).astype(jnp.int32) == labels).astype(prediction.dtype)


def top_k_accuracy(prediction: Array, target: Array, *, k: int = 5) -> Array:
    """1 where the label is among the ``k`` largest entries of the prediction, else 0; ties go to the first.

    Shapes as for ``accuracy``; ``k`` below the number of classes. Fix it with ``bind(top_k_accuracy, k=3)``.
    """
    prediction, labels = with_labels("top_k_accuracy", prediction, target)
    checks.positive_integer("top_k_accuracy", "k", k)
    checks.require(
        k < prediction.shape[-1],
        f"top_k_accuracy: k is {k} but there are {prediction.shape[-1]} classes, so it is always right; choose fewer",
    )
    largest = jax.lax.top_k(prediction, k)[1]
    return (largest == labels[..., None]).any(-1).astype(prediction.dtype)


def confusion_statistics(prediction: Array, target: Array, weights: Array) -> Array:
    prediction, labels = with_labels("confusion_matrix", prediction, target)
    checks.require(
        prediction.ndim == 2,
        f"confusion_matrix: prediction has shape {prediction.shape}; expected (N, C) and labels (N,)",
    )
    classes = prediction.shape[-1]
    real = (weights > 0)[:, None]
    rows = (one_hot(labels, classes) & real).astype(jnp.int32)
    columns = (one_hot(prediction.argmax(-1), classes)).astype(jnp.int32)
    return rows.T @ columns


confusion_matrix = Metric(confusion_statistics, lambda counts: counts)
"""``(C, C)`` int32: how many examples of class ``i`` (row) were predicted to be of class ``j`` (column)."""


class Moments(NamedTuple):
    """Of each output ``(K,)``: ``Σ w``, the mean of the targets, ``Σ w (y − ȳ)²`` and ``Σ w (y − ŷ)²``."""

    weight: Array
    mean: Array
    scatter: Array
    residual: Array


def moments(prediction: Array, target: Array, weights: Array) -> Moments:
    prediction, target = of_one_shape("r_squared", prediction, target)
    dtype = checks.at_least_float32(prediction)
    y, error = target.astype(dtype), (prediction - target).astype(dtype)
    w = jnp.broadcast_to(weights.astype(dtype).reshape(-1, *[1] * (y.ndim - 1)), y.shape)
    axes = tuple(range(y.ndim - 1))
    weight = w.sum(axes)
    mean = (w * y).sum(axes) / jnp.where(weight > 0, weight, 1)
    return Moments(weight, mean, (w * jnp.square(y - mean)).sum(axes), (w * jnp.square(error)).sum(axes))


def merged(a: Moments, b: Moments) -> Moments:
    """The scatter of both about their common mean: Chan, Golub and LeVeque 1979, eq. 2.1.

    The difference of ``Σ y²`` and ``N ȳ²`` would cancel.
    """
    weight = a.weight + b.weight
    share = b.weight / jnp.where(weight > 0, weight, 1)
    apart = b.mean - a.mean
    scatter = a.scatter + b.scatter + jnp.square(apart) * a.weight * share
    return Moments(weight, a.mean + apart * share, scatter, a.residual + b.residual)


def determination(m: Moments) -> Array:
    """For a target that never changes: 1 if it is always met, else −∞, as 0/0 and the limit have it."""
    perfect = jnp.where(m.residual > 0, -jnp.inf, 1.0).astype(m.scatter.dtype)
    return jnp.where(m.scatter > 0, 1 - m.residual / jnp.where(m.scatter > 0, m.scatter, 1), perfect).mean()


r_squared = Metric(moments, determination, merged)
"""Coefficient of determination, ``R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)²``, the mean over the ``K`` outputs.

Shapes ``(N, K)`` both. 1 is perfect, 0 no better than the mean of the targets.
"""


def with_labels(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    checks.require(
        prediction.ndim > 0 and prediction.shape[-1] > 1,
        f"{place}: prediction has shape {prediction.shape}, a single class on its last axis, which is always right; "
        f"for yes/no outputs write a metric of your own, such as lambda z, y: jnp.mean((z > 0) == y, -1)",
    )
    labels = target if checks.class_target(place, prediction, target) else target.argmax(-1)
    return prediction, labels.astype(jnp.int32)


def of_one_shape(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    checks.floating(place, "prediction", prediction)
    checks.floating(place, "target", target)
    checks.same_shape(place, prediction, target)
    checks.require(prediction.ndim > 1, f"{place}: prediction has shape {prediction.shape}; expected (N, K)")
    return prediction, target.astype(prediction.dtype)
