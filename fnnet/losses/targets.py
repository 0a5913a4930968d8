"""The checks of the predictions and targets of the losses, one function for each kind of target."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.types import Array


def real_targets(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Return both for a loss of real outputs: floating point, and of the same shape."""
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    checks.floating(place, "target", target)
    return with_outputs(place, prediction, target)


def binary_targets(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Return both for a loss of yes/no outputs: targets in [0, 1], boolean, integer or floating point."""
    values = known_values(target)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"{place}: target has values from {values.min():g} to {values.max():g}; "
            f"expected probabilities or labels in [0, 1]"
        )
    return with_outputs(place, jnp.asarray(prediction), jnp.asarray(target))


def sign_targets(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Return both for a loss of margins: targets −1 or 1, integer or floating point."""
    values = known_values(target)
    if not np.isin(values, (-1, 1)).all():
        found = np.unique(values)[:5].tolist()
        raise ValueError(f"{place}: target has values such as {found}; expected −1 or 1: map labels y to 2 * y - 1")
    return with_outputs(place, jnp.asarray(prediction), jnp.asarray(target))


def count_targets(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Return both for a loss of counts: targets of at least 0, integer or floating point."""
    values = known_values(target)
    if values.size and not values.min() >= 0:
        raise ValueError(f"{place}: target has the value {values.min():g}; expected counts of at least 0")
    return with_outputs(place, jnp.asarray(prediction), jnp.asarray(target))


def known_values(target: Any) -> np.ndarray[Any, Any]:
    """Return the values of a target where they are known, and none where it is traced.

    They are read with NumPy, because within a trace the functions of jax would trace them too.
    """
    return np.asarray(target).astype(np.float64) if checks.is_concrete(target) else np.empty(0)


def with_outputs(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Return both, of the same shape and with outputs on the last axis; the target gets the prediction's dtype."""
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
    smoothing: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
) -> tuple[Array, Array, Array]:
    """Return the prediction, the factor ``t_c`` of each class's term, and 1 per example, after checking both.

    ``t_c = w_c ((1 − s) y_c + s / C)`` with smoothing ``s`` and class weights ``w``, where a label stands for
    ``y_c = [c = label]``. The last array has shape ``(..., 1)`` and multiplies the result: it is NaN instead of 1 where
    a label is out of range.
    """
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    checks.floating(place, "prediction", prediction)
    checks.in_range(place, "smoothing", smoothing, 0, 1)
    labels = checks.class_target(place, prediction, target)
    classes, dtype = prediction.shape[-1], prediction.dtype
    valid = jnp.ones((1,) * prediction.ndim, dtype)
    if labels:
        y = one_hot(target, classes)
        valid = jnp.where(y.any(-1, keepdims=True), 1, jnp.nan).astype(dtype)
    else:
        y = target
    t = y.astype(dtype)
    if smoothing:
        t = (1 - smoothing) * t + smoothing / classes
    if class_weights is not None:
        weights = checked_weights(place, class_weights, classes).astype(dtype)
        t = t * weights.reshape((1,) * (t.ndim - 1) + (classes,))
    return prediction, t, valid


def one_hot(labels: Array, classes: int) -> Array:
    """Return booleans ``[labels = c]``: ``(...) -> (..., C)``.

    They come from a comparison with every class instead of a gather, because the derivative of a gather is a slow
    scatter. Labels of a dtype that may not hold the number of classes are compared as int32.
    """
    labels = jnp.asarray(labels)
    if jnp.iinfo(labels.dtype).bits < 32:
        labels = labels.astype(jnp.int32)
    return labels[..., None] == jnp.arange(classes, dtype=labels.dtype).reshape((1,) * labels.ndim + (classes,))


def checked_weights(place: str, class_weights: Any, classes: int) -> Array:
    weights = np.asarray(class_weights, np.float64)
    checks.require(
        weights.shape == (classes,) and bool((weights >= 0).all()),
        f"{place}: class_weights is {class_weights}; expected {classes} numbers of at least 0, one per class",
    )
    return jnp.asarray(weights)
