"""What a loss may be given: checked predictions and targets."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.types import Array


def real_targets(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """For real outputs: both floating point and of one shape."""
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    checks.floating(place, "target", target)
    return with_outputs(place, prediction, target)


def binary_targets(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """For yes/no outputs: targets in [0, 1], boolean, integer or floating."""
    values = known_values(target)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"{place}: target has values from {values.min():g} to {values.max():g}; "
            f"expected probabilities or labels in [0, 1]"
        )
    return with_outputs(place, jnp.asarray(prediction), jnp.asarray(target))


def sign_targets(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """For margins: targets −1 or 1, integer or floating."""
    values = known_values(target)
    if not np.isin(values, (-1, 1)).all():
        found = np.unique(values)[:5].tolist()
        raise ValueError(f"{place}: target has values such as {found}; expected −1 or 1: map labels y to 2 * y - 1")
    return with_outputs(place, jnp.asarray(prediction), jnp.asarray(target))


def count_targets(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """For counts: targets of at least 0, integer or floating."""
    values = known_values(target)
    if values.size and not values.min() >= 0:
        raise ValueError(f"{place}: target has the value {values.min():g}; expected counts of at least 0")
    return with_outputs(place, jnp.asarray(prediction), jnp.asarray(target))


def known_values(target: Any) -> np.ndarray[Any, Any]:
    """The values of a target where they are known, none where it is traced.

    With NumPy: within a trace jax's own functions would stage even what is known.
    """
    return np.asarray(target).astype(np.float64) if checks.is_concrete(target) else np.empty(0)


def with_outputs(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Same shapes, outputs on the last axis; the target in the prediction's dtype."""
    checks.floating(place, "prediction", prediction)
    checks.same_shape(place, prediction, target)
    checks.require(
        prediction.ndim > 0,
        f"{place}: prediction is a scalar; expected outputs on its last axis, for example (8, 1)",
    )
    return prediction, target.astype(prediction.dtype)


def class_targets(
    place: str,
    prediction: Array,
    target: Array,
    *,
    smoothing: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
    ignore_label: int | None = None,
) -> tuple[Array, Array, Array]:
    """For classes: the prediction, the weight ``t_c`` of each class's term, and 1 per example.

    ``t_c = w_c ((1 − s) y_c + s / C)`` with smoothing ``s`` and class weights ``w``, and ``y_c = [c = label]`` for
    labels; 0 where the label is the ignored one. The last array, of shape ``(..., 1)``, is NaN where a label is out of
    range, else 1: to be multiplied with.
    """
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    checks.floating(place, "prediction", prediction)
    checks.in_range(place, "smoothing", smoothing, 0, 1)
    kept = target if ignore_label is None else without_ignored(place, target, ignore_label)
    labels = checks.class_target(place, prediction, kept)
    classes, dtype = prediction.shape[-1], prediction.dtype
    valid = jnp.ones((1,) * prediction.ndim, dtype)
    if labels:
        t = one_hot(kept, classes).astype(dtype)
        in_classes = (widened(jnp.asarray(kept)) >= 0) & (widened(jnp.asarray(kept)) < classes)
        valid = jnp.where(in_classes, 1, jnp.nan).astype(dtype)[..., None]
    else:
        t = target.astype(dtype)
    if smoothing:
        t = (1 - smoothing) * t + smoothing / classes
    if class_weights is not None:
        weights = checked_weights(place, class_weights, classes).astype(dtype)
        t = t * weights.reshape((1,) * (t.ndim - 1) + (classes,))
    if ignore_label is not None:
        t = jnp.where((target == ignore_label)[..., None], 0, t)
    return prediction, t, valid


def one_hot(labels: Array, classes: int) -> Array:
    """Booleans ``[labels = c]``: ``(...) -> (..., C)``.

    A comparison with every class, not a gather: its transpose is a product instead of a slow scatter.
    """
    wide = widened(jnp.asarray(labels))[..., None]
    return wide == jnp.arange(classes, dtype=wide.dtype).reshape((1,) * labels.ndim + (classes,))


def widened(labels: Array) -> Array:
    """Labels in at least int32: a smaller dtype may not hold the number of classes."""
    return labels if jnp.iinfo(labels.dtype).bits >= 32 else labels.astype(jnp.int32)


def without_ignored(place: str, target: Array, ignore_label: int) -> Any:
    checks.require(
        checks.is_integer(target),
        f"{place}: ignore_label={ignore_label} needs integer labels but target has dtype {checks.dtype_of(target)}",
    )
    if checks.is_concrete(target):  # with NumPy, so that the labels can still be looked at within a trace
        labels = np.asarray(target)
        return np.where(labels == ignore_label, np.zeros_like(labels), labels)
    return jnp.where(target == ignore_label, 0, target)


def checked_weights(place: str, class_weights: Any, classes: int) -> Array:
    weights = np.asarray(class_weights, np.float64)
    checks.require(
        weights.shape == (classes,) and bool((weights >= 0).all()),
        f"{place}: class_weights is {class_weights}; expected {classes} numbers of at least 0, one per class",
    )
    return jnp.asarray(weights)
