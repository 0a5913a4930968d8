"""Metrics: pure functions ``metric(prediction, target) -> (N,)``, one number per example, as the losses are."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet import checks
from fnnet.types import Array


def accuracy(prediction: Array, target: Array) -> Array:
    """1 where the largest entry of the prediction is at the label, else 0; ties go to the first.

    Shapes ``(N, C)`` with ``C`` at least 2 (probabilities or logits) with integer labels ``(N,)`` or distributions
    ``(N, C)``, ``-> (N,)``.
    """
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    checks.require(
        prediction.ndim > 0 and prediction.shape[-1] > 1,
        f"accuracy: prediction has shape {prediction.shape}, a single class on its last axis, which is always right; "
        f"for yes/no outputs write a metric of your own, such as lambda z, y: jnp.mean((z > 0) == y, -1)",
    )
    labels = target if checks.class_target("accuracy", prediction, target) else target.argmax(-1)
    largest = prediction.argmax(-1)
    return (largest == labels.astype(largest.dtype)).astype(prediction.dtype)
