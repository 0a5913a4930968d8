"""Loss functions: ``loss(prediction, target) -> (N,)``, one number per example and never a hidden mean.

The last axis of the prediction holds an example's outputs (``K``) or classes (``C``); the result has the shape of the
axes before it. ``fnnet.Cost`` takes the mean over the examples. Shapes, dtypes and label kinds are checked while
tracing, and nothing is broadcast. Floating-point targets are converted to the prediction's dtype.

Labels out of range are refused where their values are known; inside ``jit`` they are not, and such an example's loss
and gradient are then NaN rather than a plausible number.

In the formulas ``ŷ`` is a prediction, ``y`` its target, ``p`` a predicted probability and ``z`` a logit.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.activations import log_softmax
from fnnet.types import Array


def squared_error(prediction: Array, target: Array) -> Array:
    """Mean squared error of an example, ``ℓ = 1/K Σ_k (ŷ_k − y_k)²``.  Shapes ``(N, K), (N, K) -> (N,)``."""
    prediction, target = regression("losses.squared_error", prediction, target)
    return jnp.square(prediction - target).mean(-1)


def half_squared_error(prediction: Array, target: Array) -> Array:
    """Half squared error of an example, ``ℓ = ½ Σ_k (ŷ_k − y_k)²``.  Shapes ``(N, K), (N, K) -> (N,)``."""
    prediction, target = regression("losses.half_squared_error", prediction, target)
    return 0.5 * jnp.square(prediction - target).sum(-1)


def binary_cross_entropy(prediction: Array, target: Array) -> Array:
    """Cross-entropy of ``K`` independent yes/no probabilities, ``ℓ = −Σ_k y_k log p_k + (1 − y_k) log(1 − p_k)``.

    Shapes ``(N, K), (N, K) -> (N,)``; targets in [0, 1], of any dtype. With ``0 log 0 = 0`` a certain and right
    prediction costs 0; a certain and wrong one costs infinity. Train on logits with ``sigmoid_cross_entropy``.
    """
    p, y = binary("losses.binary_cross_entropy", prediction, target)
    # log is given 1 wherever its factor is 0, for the derivative's sake: 0 · (1/0) would be NaN.
    yes = y * jnp.log(jnp.where(y == 0, 1, p))
    no = (1 - y) * jnp.log1p(-jnp.where(y == 1, 0, p))
    return -(yes + no).sum(-1)


def sigmoid_cross_entropy(prediction: Array, target: Array) -> Array:
    """Binary cross-entropy from logits, ``ℓ = Σ_k y_k s(−z_k) + (1 − y_k) s(z_k)`` with ``s(z) = log(1 + exp(z))``.

    It is ``binary_cross_entropy(sigmoid(z), y)`` without its rounding and overflow.
    Shapes ``(N, K), (N, K) -> (N,)``; targets in [0, 1], of any dtype.
    """
    z, y = binary("losses.sigmoid_cross_entropy", prediction, target)
    yes = jnp.where(y == 0, 0, y * jnp.logaddexp(-z, jnp.zeros_like(z)))
    no = jnp.where(y == 1, 0, (1 - y) * jnp.logaddexp(z, jnp.zeros_like(z)))
    return (yes + no).sum(-1)


def cross_entropy(prediction: Array, target: Array) -> Array:
    """Cross-entropy of class probabilities, ``ℓ = −log p_y`` for a label, ``ℓ = −Σ_c y_c log p_c`` for a distribution.

    Shapes ``(N, C)`` with integer labels ``(N,)`` or distributions ``(N, C)``, ``-> (N,)``. The probabilities are
    taken as they are, not normalized. Train on logits with ``softmax_cross_entropy``.
    """
    p, target = jnp.asarray(prediction), jnp.asarray(target)
    checks.floating("losses.cross_entropy", "prediction", p)
    if checks.class_target("losses.cross_entropy", p, target):
        return -jnp.log(pick(p, target))
    y = target.astype(p.dtype)
    return -(y * jnp.log(jnp.where(y == 0, 1, p))).sum(-1)


def softmax_cross_entropy(prediction: Array, target: Array) -> Array:
    """Cross-entropy from logits, ``ℓ = −log p_y`` for a label, ``ℓ = −Σ_c y_c log p_c`` for a distribution.

    ``p = softmax(z)``. It is ``cross_entropy(softmax(z), y)`` without its rounding and overflow.
    Shapes ``(N, C)`` with integer labels ``(N,)`` or distributions ``(N, C)``, ``-> (N,)``.
    """
    z, target = jnp.asarray(prediction), jnp.asarray(target)
    checks.floating("losses.softmax_cross_entropy", "prediction", z)
    labels = checks.class_target("losses.softmax_cross_entropy", z, target)
    log_p = log_softmax(z)
    if labels:
        return -pick(log_p, target)
    y = target.astype(z.dtype)
    return -jnp.where(y == 0, 0, y * log_p).sum(-1)


def pick(values: Array, labels: Array) -> Array:
    """``values[..., labels]``, NaN where a label is out of range: ``(..., C), (...) -> (...)``.

    A comparison with every class, not a gather: its transpose is a product instead of a slow scatter.
    """
    chosen = jnp.where(one_hot(labels, values.shape[-1]), values, 0).sum(-1)
    return jnp.where(in_classes(labels, values.shape[-1]), chosen, jnp.nan)


def one_hot(labels: Array, classes: int) -> Array:
    """Booleans ``[labels = c]``: ``(...) -> (..., C)``."""
    return labels[..., None] == jnp.arange(classes, dtype=labels.dtype)


def in_classes(labels: Array, classes: int) -> Array:
    return (labels >= 0) & (labels < classes)


def regression(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Checked prediction and target of a loss on real outputs."""
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    checks.floating(place, "prediction", prediction)
    checks.floating(place, "target", target)
    checks.same_shape(place, prediction, target)
    has_outputs(place, prediction)
    return prediction, target.astype(prediction.dtype)


def binary(place: str, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Checked prediction and target of a loss on yes/no outputs; the target may be boolean, integer or floating."""
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    checks.floating(place, "prediction", prediction)
    checks.same_shape(place, prediction, target)
    has_outputs(place, prediction)
    if checks.is_concrete(target) and target.size:
        values = np.asarray(target).astype(np.float64)  # within a trace jax's own functions would stage them
        checks.require(
            bool(values.min() >= 0 and values.max() <= 1),
            f"{place}: target has values from {values.min():g} to {values.max():g}; "
            f"expected probabilities or labels in [0, 1]",
        )
    return prediction, target.astype(prediction.dtype)


def has_outputs(place: str, prediction: Array) -> None:
    checks.require(
        prediction.ndim > 0,
        f"{place}: prediction is a scalar; expected outputs on its last axis, for example (8, 1)",
    )
