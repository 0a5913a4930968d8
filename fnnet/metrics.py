"""Metrics, which measure how close predictions are to their targets.

Most are pure functions ``metric(prediction, target) -> (N,)`` with one number per example, like the losses, and
``evaluate`` returns their means. A metric that is not a mean over examples is a ``Metric``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.cost import broadcast_weights
from fnnet.losses.targets import arrays, one_hot
from fnnet.types import Array


def added(a: Any, b: Any) -> Any:
    """Return the sum of two trees of statistics."""
    return jax.tree.map(jnp.add, a, b)


class Metric(NamedTuple):
    """A metric that is not a mean over examples. Its result does not depend on how the data are split into batches.

    ``statistics(prediction, target, weights)`` returns a pytree of arrays for a batch, where ``weights`` are 1 for what
    the cost counts and 0 for the rest. They have the shape ``(N,)``, with 0 for the padding of a short batch, or that
    of the labels if the cost ignores a label; the target has the label 0 in the place of the ignored one.
    ``merge(a, b)`` returns the statistics of two batches together; by default it adds them. The statistics of no
    examples must be zeros. ``result(statistics)`` returns the metric.
    """

    statistics: Callable[[Array, Array, Array], Any]
    result: Callable[[Any], Array]
    merge: Callable[[Any, Any], Any] = added


def accuracy(prediction: Array, target: Array) -> Array:
    """Return 1 for each example whose label has the largest entry of the prediction, else 0; the first wins a tie.

    A prediction with a NaN is wrong, whatever the label.

    Shapes: the prediction is ``(N, C)`` with at least 2 classes, of probabilities or logits; the target is integer
    labels ``(N,)`` or distributions ``(N, C)``; the result is ``(N,)``.
    """
    prediction, labels = with_labels("accuracy", prediction, target)
    right = prediction.argmax(-1).astype(jnp.int32) == labels
    return (right & without_nan(prediction)).astype(prediction.dtype)


def top_k_accuracy(prediction: Array, target: Array, *, k: int = 5) -> Array:
    """Return 1 for each example whose label is among the ``k`` largest entries of the prediction, else 0.

    The first of equal entries counts as larger. A prediction with a NaN is wrong, whatever the label. The shapes are
    those of ``accuracy``, and ``k`` must be less than the number of classes. Choose it with
    ``bind(top_k_accuracy, k=3)``.
    """
    prediction, labels = with_labels("top_k_accuracy", prediction, target)
    checks.positive_integer("top_k_accuracy", "k", k)
    checks.require(
        k < prediction.shape[-1],
        f"top_k_accuracy: k is {k} but there are {prediction.shape[-1]} classes, so every prediction "
        f"would be right; choose a smaller k",
    )
    largest = jax.lax.top_k(prediction, k)[1]
    return ((largest == labels[..., None]).any(-1) & without_nan(prediction)).astype(prediction.dtype)


def confusion_statistics(prediction: Array, target: Array, weights: Array) -> Array:
    """Return the confusion matrix ``(C, C)`` of a batch."""
    prediction, labels = with_labels("confusion_matrix", prediction, target)
    classes = prediction.shape[-1]
    counts = (broadcast_weights("weights", weights, labels.shape) > 0) & without_nan(prediction)
    rows = (one_hot(labels, classes) & counts[..., None]).astype(jnp.int32)
    columns = (one_hot(prediction.argmax(-1), classes)).astype(jnp.int32)
    return rows.reshape(-1, classes).T @ columns.reshape(-1, classes)


confusion_matrix = Metric(confusion_statistics, lambda counts: counts)
"""The matrix ``(C, C)``, int32, of the number of examples of class ``i`` that are predicted to be of class ``j``.

The shapes are those of ``accuracy``. A prediction with a NaN is of no class and counts nowhere.
"""


class Moments(NamedTuple):
    """The sums ``(K,)``, one for each output, from which ``r_squared`` is computed."""

    weight: Array  # Σ w
    mean: Array  # ȳ, the weighted mean of the targets
    scatter: Array  # Σ w (y − ȳ)²
    residual: Array  # Σ w (y − ŷ)²


def moments(prediction: Array, target: Array, weights: Array) -> Moments:
    """Return the ``Moments`` of a batch with ``prediction`` and ``target`` of shape ``(N, ..., K)``."""
    place = "r_squared"
    prediction, target = arrays(place, prediction, target)
    checks.floating(place, "prediction", prediction)
    checks.floating(place, "target", target)
    checks.same_shape(place, prediction, target)
    checks.require(prediction.ndim > 1, f"{place}: prediction has shape {prediction.shape}; expected (N, K)")
    target = target.astype(prediction.dtype)
    dtype = checks.at_least_float32(prediction)
    y, error = target.astype(dtype), (prediction - target).astype(dtype)
    w = broadcast_weights("weights", weights.astype(dtype), y.shape)
    y, error = jnp.where(w == 0, 0, y), jnp.where(w == 0, 0, error)  # it may be NaN where it does not count
    axes = tuple(range(y.ndim - 1))
    weight = w.sum(axes)
    mean = (w * y).sum(axes) / jnp.where(weight > 0, weight, 1)
    return Moments(weight, mean, (w * jnp.square(y - mean)).sum(axes), (w * jnp.square(error)).sum(axes))


def merged(a: Moments, b: Moments) -> Moments:
    """Return the moments of two batches together, where the scatter is that about their common mean.

    The difference ``Σ y² − N ȳ²`` would lose digits to cancellation.

    Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances",
    eq. 2.1.
    """
    weight = a.weight + b.weight
    fraction = b.weight / jnp.where(weight > 0, weight, 1)
    difference = b.mean - a.mean
    scatter = a.scatter + b.scatter + jnp.square(difference) * a.weight * fraction
    return Moments(weight, a.mean + difference * fraction, scatter, a.residual + b.residual)


def determination(m: Moments) -> Array:
    """Return ``R²``. For a target that never changes it is 1 if all predictions are exact, and −∞ otherwise."""
    perfect = jnp.where(m.residual > 0, -jnp.inf, 1 - m.residual)  # NaN stays NaN
    return jnp.where(m.scatter > 0, 1 - m.residual / jnp.where(m.scatter > 0, m.scatter, 1), perfect).mean()


r_squared = Metric(moments, determination, merged)
"""The coefficient of determination, ``R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)²``, as a mean over the ``K`` outputs.

Prediction and target have the shape ``(N, K)``. A perfect prediction has 1, and the mean of the targets has 0.
"""


def without_nan(prediction: Array) -> Array:
    """Return whether no entry of a prediction is NaN, of the shape ``(...)`` for one of ``(..., C)``."""
    return ~jnp.isnan(prediction).any(-1)


def with_labels(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Return the prediction and the labels, int32; the label of a distribution is its largest entry."""
    prediction, target = arrays(place, prediction, target)
    checks.require(
        prediction.ndim > 0 and prediction.shape[-1] > 1,
        f"{place}: prediction has shape {prediction.shape}, a single class on its last axis; expected at least 2 "
        f"classes: for a yes/no output use a function of your own, such as lambda z, y: jnp.mean((z > 0) == y, -1)",
    )
    labels = target if checks.class_target(place, prediction, target) else target.argmax(-1)
    return prediction, labels.astype(jnp.int32)
