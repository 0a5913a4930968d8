"""Losses, each with a prediction and a target that suit it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import bind, identity, losses, sigmoid, softmax
from fnnet.types import Loss
from tests.cases.numbers import SEED, Maker, counts, labels, probabilities, real, signs, simplex, yes_no


@dataclass(frozen=True)
class LossCase:
    """A loss, makers of its prediction and target, and the last activation of a network trained with it."""

    name: str
    loss: Loss
    prediction: Maker
    target: Maker
    head: Callable[..., jax.Array] = identity

    def __str__(self) -> str:
        return self.name

    def arrays(self, dtype: Any) -> tuple[jax.Array, jax.Array]:
        """Return prediction and target; a floating-point target has the same dtype."""
        generator = np.random.default_rng(SEED)
        prediction, target = self.prediction(generator), self.target(generator)
        floating = np.issubdtype(target.dtype, np.floating)
        return jnp.asarray(prediction, dtype), jnp.asarray(target, dtype if floating else None)


SHAPE, SEQUENCE = (4, 3), (2, 3, 4)  # examples and outputs; with positions in between
WEIGHTS = (0.5, 2.0, 1.0)

REGRESSION = [
    LossCase("squared_error", losses.squared_error, real(*SHAPE), real(*SHAPE)),
    LossCase("squared_error of a sequence", losses.squared_error, real(*SEQUENCE), real(*SEQUENCE)),
    LossCase("half_squared_error", losses.half_squared_error, real(*SHAPE), real(*SHAPE)),
    LossCase("absolute_error", losses.absolute_error, real(*SHAPE), real(*SHAPE)),
    LossCase("absolute_error of a sequence", losses.absolute_error, real(*SEQUENCE), real(*SEQUENCE)),
    LossCase("huber", losses.huber, real(*SHAPE), real(*SHAPE)),
    LossCase("huber, delta 0.3", bind(losses.huber, delta=0.3), real(*SHAPE), real(*SHAPE)),
    LossCase("log_cosh", losses.log_cosh, real(*SHAPE), real(*SHAPE)),
    LossCase("cosine", losses.cosine, real(*SHAPE), real(*SHAPE)),
    LossCase("cosine of a sequence", losses.cosine, real(*SEQUENCE), real(*SEQUENCE)),
]

BINARY, SIGMOID = losses.binary_cross_entropy, losses.sigmoid_cross_entropy

YES_NO = [
    LossCase("binary_cross_entropy", BINARY, probabilities(*SHAPE), probabilities(*SHAPE), sigmoid),
    LossCase("binary_cross_entropy, booleans", BINARY, probabilities(*SHAPE), yes_no(*SHAPE, dtype=bool), sigmoid),
    LossCase("binary_cross_entropy, integers", BINARY, probabilities(*SHAPE), yes_no(*SHAPE, dtype=np.int32), sigmoid),
    LossCase("sigmoid_cross_entropy", SIGMOID, real(*SHAPE), probabilities(*SHAPE)),
    LossCase("sigmoid_cross_entropy, booleans", SIGMOID, real(*SHAPE), yes_no(*SHAPE, dtype=bool)),
    LossCase("sigmoid_cross_entropy, integers", SIGMOID, real(4, 1), yes_no(4, 1, dtype=np.int32)),
    LossCase("hinge", losses.hinge, real(*SHAPE), signs(*SHAPE, dtype=np.float64)),
    LossCase("hinge, integers of a sequence", losses.hinge, real(*SEQUENCE), signs(*SEQUENCE, dtype=np.int8)),
    LossCase("squared_hinge", losses.squared_hinge, real(*SHAPE), signs(*SHAPE, dtype=np.float64)),
    LossCase("squared_hinge, integers", losses.squared_hinge, real(*SHAPE), signs(*SHAPE, dtype=np.int32)),
]

CLASSES, SOFTMAX, FOCAL = losses.cross_entropy, losses.softmax_cross_entropy, losses.focal
SEQUENCE_LABELS = labels(2, 3, classes=4)


def smoothed(loss: Loss) -> Loss:
    return bind(loss, smoothing=0.2)


def weighted(loss: Loss) -> Loss:
    return bind(loss, class_weights=WEIGHTS)


def with_all_options(loss: Loss) -> Loss:
    return bind(loss, smoothing=0.1, class_weights=(*WEIGHTS, 0.0))


OVER_CLASSES = [
    LossCase("cross_entropy, labels", CLASSES, simplex(*SHAPE), labels(4, classes=3), softmax),
    LossCase("cross_entropy, distributions", CLASSES, simplex(*SHAPE), simplex(*SHAPE), softmax),
    LossCase("cross_entropy of a sequence", CLASSES, simplex(*SEQUENCE), SEQUENCE_LABELS, softmax),
    LossCase("cross_entropy, smoothed", smoothed(CLASSES), simplex(*SHAPE), labels(4, classes=3), softmax),
    LossCase("cross_entropy, weighted", weighted(CLASSES), simplex(*SHAPE), simplex(*SHAPE), softmax),
    LossCase("cross_entropy, all options", with_all_options(CLASSES), simplex(*SEQUENCE), SEQUENCE_LABELS, softmax),
    LossCase("softmax_cross_entropy, labels", SOFTMAX, real(*SHAPE), labels(4, classes=3)),
    LossCase("softmax_cross_entropy, bytes", SOFTMAX, real(*SHAPE), labels(4, classes=3, dtype=np.uint8)),
    LossCase("softmax_cross_entropy, distributions", SOFTMAX, real(*SHAPE), simplex(*SHAPE)),
    LossCase("softmax_cross_entropy, not normalized", SOFTMAX, real(*SHAPE), probabilities(*SHAPE)),
    LossCase("softmax_cross_entropy of a sequence", SOFTMAX, real(*SEQUENCE), SEQUENCE_LABELS),
    LossCase("softmax_cross_entropy, smoothed", smoothed(SOFTMAX), real(*SHAPE), simplex(*SHAPE)),
    LossCase("softmax_cross_entropy, weighted", weighted(SOFTMAX), real(*SHAPE), labels(4, classes=3)),
    LossCase("softmax_cross_entropy, all options", with_all_options(SOFTMAX), real(*SEQUENCE), SEQUENCE_LABELS),
    LossCase("focal, labels", FOCAL, real(*SHAPE), labels(4, classes=3)),
    LossCase("focal, distributions", FOCAL, real(*SHAPE), simplex(*SHAPE)),
    LossCase("focal, gamma 0.5", bind(FOCAL, gamma=0.5), real(*SHAPE), labels(4, classes=3)),
    LossCase("focal, gamma 0", bind(FOCAL, gamma=0.0), real(*SHAPE), labels(4, classes=3)),
    LossCase("focal, all options", with_all_options(FOCAL), real(*SEQUENCE), SEQUENCE_LABELS),
    LossCase("kl_divergence", losses.kl_divergence, simplex(*SHAPE), simplex(*SHAPE), softmax),
    LossCase("kl_divergence of a sequence", losses.kl_divergence, simplex(*SEQUENCE), simplex(*SEQUENCE), softmax),
]

POISSON, GAUSSIAN = losses.poisson_negative_log_likelihood, losses.gaussian_negative_log_likelihood

LIKELIHOOD = [
    LossCase("poisson, integers", POISSON, real(*SHAPE), counts(*SHAPE, dtype=np.int32)),
    LossCase("poisson of a sequence", POISSON, real(*SEQUENCE), counts(*SEQUENCE, dtype=np.float64)),
    LossCase("gaussian", GAUSSIAN, real(4, 6), real(4, 3)),
    LossCase("gaussian of a sequence", GAUSSIAN, real(2, 3, 4), real(2, 3, 2)),
]

LOSSES = [*REGRESSION, *YES_NO, *OVER_CLASSES, *LIKELIHOOD]
