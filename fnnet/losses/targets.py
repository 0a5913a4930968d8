"""The checks of the predictions and targets of the losses, one function for each kind of target."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.types import Array, Scalar

OUTSIDE = 0.01  # so far outside [0, 1] logits lie, and probabilities do not


def real_targets(place: str, prediction: Array, target: Array, *, probabilities: bool = False) -> tuple[Array, Array]:
    """Return both for a loss of real outputs: floating point, and of the same shape."""
    prediction, target = arrays(place, prediction, target)
    checks.floating(place, "target", target)
    if probabilities:
        check_probabilities(place, prediction)
        check_unit_interval(place, target)
    return with_outputs(place, prediction, target)


def binary_targets(place: str, prediction: Array, target: Array, *, probabilities: bool = False) -> tuple[Array, Array]:
    """Return both for a loss of yes/no outputs: targets in [0, 1], boolean, integer or floating point."""
    prediction, y = arrays(place, prediction, target)
    if probabilities:
        check_probabilities(place, prediction)
    check_unit_interval(place, target)
    return with_outputs(place, prediction, y)


def sign_targets(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Return both for a loss of margins: targets −1 or 1, integer or floating point."""
    prediction, y = arrays(place, prediction, target)
    values = known_values(target)
    if not np.isin(values, (-1, 1)).all():
        found = np.unique(values)[:5].tolist()
        raise ValueError(f"{place}: target has values such as {found}; expected −1 or 1: map labels y to 2 * y - 1")
    return with_outputs(place, prediction, y)


def count_targets(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Return both for a loss of counts: targets of at least 0, integer or floating point."""
    prediction, y = arrays(place, prediction, target)
    values = known_values(target)
    if values.size and not values.min() >= 0:
        raise ValueError(f"{place}: target has the value {values.min():g}; expected counts of at least 0")
    return with_outputs(place, prediction, y)


def arrays(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Return both as arrays of JAX."""
    return checks.array(place, "prediction", prediction), checks.array(place, "target", target)


def check_unit_interval(place: str, target: Array) -> None:
    """Raise where it is known that a target is outside [0, 1]."""
    values = known_values(target)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"{place}: target has values from {values.min():g} to {values.max():g}; "
            f"expected probabilities or labels in [0, 1]"
        )


def check_probabilities(place: str, prediction: Array) -> None:
    """Raise where it is known that a prediction is outside [0, 1] by more than rounding or a difference quotient."""
    values = known_values(prediction)
    if values.size and checks.is_float(prediction):
        low, high = values.min(), values.max()
        checks.require(
            not (low < -OUTSIDE or high > 1 + OUTSIDE),
            f"{place}: prediction has values from {low:g} to {high:g}; expected probabilities in [0, 1]: end the "
            f"model with softmax or sigmoid, or take losses.softmax_cross_entropy or losses.sigmoid_cross_entropy, "
            f"which take logits",
        )


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
    check_not_empty(place, prediction, "output")
    return prediction, target.astype(prediction.dtype)


def class_targets(
    place: str,
    prediction: Array,
    target: Array,
    smoothing: Scalar = 0.0,
    class_weights: tuple[Scalar, ...] | Array | None = None,
    *,
    probabilities: bool = False,
) -> tuple[Array, Array]:
    """Return the prediction and the factor ``t_c`` of each class's term, after checking both.

    ``t_c = w_c ((1 − s) y_c + s / C)`` with smoothing ``s`` and class weights ``w``, where a label stands for
    ``y_c = [c = label]``. Where a label is out of range, all of them are NaN, and so are the loss and its gradient.
    """
    prediction, target = arrays(place, prediction, target)
    checks.floating(place, "prediction", prediction)
    checks.in_range(place, "smoothing", smoothing, 0, 1)
    labels = checks.class_target(place, prediction, target)
    classes, dtype = prediction.shape[-1], prediction.dtype
    check_not_empty(place, prediction, "class")
    if probabilities:
        check_probabilities(place, prediction)
    else:
        checks.require(
            classes > 1,
            f"{place}: prediction has shape {prediction.shape}, a single logit, whose softmax is always 1; expected at "
            f"least 2 classes: for a yes/no output use losses.sigmoid_cross_entropy",
        )
    y = (one_hot(target, classes) if labels else target).astype(dtype)
    if labels:
        y = jnp.where(y.any(-1, keepdims=True), y, jnp.nan)
    t = checks.in_dtype(1 - smoothing, dtype) * y + checks.in_dtype(smoothing / classes, dtype)
    if class_weights is not None:
        weights = checked_weights(place, class_weights, classes).astype(dtype)
        t = t * weights.reshape((1,) * (t.ndim - 1) + (classes,))
    return prediction, t


def check_not_empty(place: str, prediction: Array, kind: str) -> None:
    checks.require(
        prediction.shape[-1] > 0,
        f"{place}: prediction has shape {prediction.shape}; expected at least one {kind} on its last axis",
    )


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
    for weight in class_weights if isinstance(class_weights, (tuple, list)) else (class_weights,):
        checks.a_number(place, "class_weights", weight)
    values = checks.known(class_weights)
    weights = jnp.asarray(class_weights if values is None else values)
    checks.require(
        weights.shape == (classes,) and (values is None or bool((values >= 0).all())),
        f"{place}: class_weights is {class_weights}; expected {classes} numbers of at least 0, one per class",
    )
    return weights
