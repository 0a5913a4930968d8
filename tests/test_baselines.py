"""What a loss can be at best, against closed forms."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Activation, Cost, bind, identity, losses, relu, sigmoid, softmax, tanh
from fnnet.inspect import constant_baseline, floor, least_loss, normalized_loss

N = 24
LABELS = jnp.asarray([0] * 12 + [1] * 8 + [2] * 4)
FREQUENCIES = np.array([12, 8, 4]) / N
ENTROPY = float(-(FREQUENCIES * np.log(FREQUENCIES)).sum())
REAL = jnp.asarray(np.random.default_rng(0).standard_normal((N, 2)), jnp.float32) * 300 + 1000
YES = jnp.asarray(np.arange(N) < 6, jnp.float32)[:, None]
X = jnp.zeros((N, 1))
OUTPUT = Activation(identity)  # the bounds do not depend on the model


def own_log(p: Any, y: Any) -> Any:
    """A loss of probabilities that nobody knows as such."""
    return -jnp.log(jnp.take_along_axis(p, y[:, None], 1))[:, 0]


def smoothed(s: float, classes: int) -> float:
    p = np.full(classes, s / classes)
    p[0] += 1 - s
    return float(-(p * np.log(p)).sum())


def poisson(y: Any) -> float:
    return float(np.mean([y - y * math.log(y) + math.lgamma(y + 1) if y else 0 for y in np.asarray(y).ravel()]))


COUNTS = jnp.asarray(np.arange(N) % 4, jnp.float32)[:, None]

# (loss, targets, outputs, H₀, L*)
KNOWN: dict[str, tuple[Any, Any, int, float, float]] = {
    "classes": (losses.softmax_cross_entropy, LABELS, 3, ENTROPY, 0),
    "probabilities": (losses.cross_entropy, LABELS, 3, ENTROPY, 0),
    "smoothed": (
        bind(losses.softmax_cross_entropy, smoothing=0.1),
        LABELS,
        3,
        float(-((0.9 * FREQUENCIES + 0.1 / 3) * np.log(0.9 * FREQUENCIES + 0.1 / 3)).sum()),
        smoothed(0.1, 3),
    ),
    "squared": (losses.squared_error, REAL, 2, float(np.var(np.asarray(REAL, np.float64), 0).mean()), 0),
    "absolute": (
        losses.absolute_error,
        REAL,
        2,
        float(np.abs(np.asarray(REAL) - np.median(np.asarray(REAL), 0)).mean()),
        0,
    ),
    "tiny units": (
        losses.squared_error,
        REAL * 1e-9,
        2,
        float(np.var(np.asarray(REAL, np.float64) * 1e-9, 0).mean()),
        0,
    ),
    "yes or no": (losses.sigmoid_cross_entropy, YES, 1, -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)), 0),
    "binary": (losses.binary_cross_entropy, YES, 1, -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)), 0),
    "a lambda": (lambda p, y: 3 * jnp.square(p - y).sum(-1), YES, 1, 3 * 0.25 * 0.75, 0),
    "counts": (
        losses.poisson_negative_log_likelihood,
        COUNTS,
        1,
        1.5 - 1.5 * math.log(1.5) + float(np.mean([math.lgamma(y + 1) for y in np.asarray(COUNTS).ravel()])),
        poisson(COUNTS),
    ),
    "variance": (
        losses.gaussian_negative_log_likelihood,
        REAL[:, :1],
        2,
        0.5 * (math.log(float(np.var(np.asarray(REAL[:, 0], np.float64)))) + 1 + math.log(2 * math.pi)),
        -math.inf,
    ),
    "wrong sign": (lambda p, y: -losses.softmax_cross_entropy(p, y), LABELS, 3, -math.inf, -math.inf),
    "own probabilities": (own_log, LABELS, 3, -math.inf, -math.inf),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_bounds(name: str) -> None:
    loss, y, outputs, constant, least = KNOWN[name]
    cost, shape = Cost(OUTPUT, loss), (N, outputs)
    found = jax.jit(lambda y: (constant_baseline(cost, (X, y), shape), least_loss(cost, (X, y), shape)))(y)
    assert float(found[0]) == pytest.approx(constant, rel=2e-3)
    assert float(found[1]) == pytest.approx(least, abs=2e-3 * abs(constant) if math.isfinite(constant) else None)


@pytest.mark.parametrize(
    ("activation", "loss", "y", "outputs", "expected"),
    [
        (softmax, losses.softmax_cross_entropy, LABELS, 3, math.log(1 + 2 / math.e)),
        (softmax, losses.softmax_cross_entropy, LABELS, 10, math.log(1 + 9 / math.e)),
        (tanh, losses.softmax_cross_entropy, LABELS, 10, math.log(1 + 9 * math.exp(-2))),
        (sigmoid, losses.sigmoid_cross_entropy, YES, 1, 0.25 * math.log(1 + 1 / math.e) + 0.75 * math.log(2)),
        (relu, losses.softmax_cross_entropy, LABELS, 3, 0),
        (sigmoid, losses.squared_error, REAL, 2, float(np.square(np.asarray(REAL) - 1).mean())),
        (relu, losses.squared_error, -REAL, 2, float(np.square(np.asarray(REAL)).mean())),
        (softmax, losses.cross_entropy, LABELS, 3, 0),
        (softmax, own_log, LABELS, 3, 0),
        (sigmoid, losses.binary_cross_entropy, YES, 1, 0),
        (softmax, losses.squared_error, jax.nn.one_hot(LABELS, 3), 3, 0),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_known_floors(activation: Any, loss: Any, y: Any, outputs: int, expected: float) -> None:
    cost = Cost(OUTPUT, loss)
    found = float(jax.jit(lambda y: floor(cost, (X, y), (N, outputs), activation))(y))
    assert found == pytest.approx(expected, rel=1e-3, abs=2e-3)


def test_weights_and_ignored_labels_are_those_of_the_cost() -> None:
    y = jnp.where(jnp.arange(N) < 20, LABELS, -1)
    weights = jnp.where(jnp.arange(N) < 12, 1.0, 2.0)
    cost = Cost(OUTPUT, losses.softmax_cross_entropy, ignore_label=-1)
    found = float(jax.jit(lambda *batch: constant_baseline(cost, batch, (N, 3)))(X, y, weights))
    p = np.array([12, 16]) / 28
    assert found == pytest.approx(float(-(p * np.log(p)).sum()), rel=1e-3)


def test_one_constant_for_all_steps_of_a_sequence() -> None:
    y = LABELS.reshape(6, 4)
    cost = Cost(OUTPUT, losses.softmax_cross_entropy)
    found = float(jax.jit(lambda *batch: constant_baseline(cost, batch, (6, 4, 3)))(X[:6], y))
    assert found == pytest.approx(ENTROPY, rel=1e-3)


def test_normalized_loss() -> None:
    assert float(normalized_loss(1.0, 2.0, 0.5)) == pytest.approx(1 / 3)
    assert float(normalized_loss(-1.0, 2.0, -math.inf)) == -3
    assert math.isnan(normalized_loss(1.0, 2.0, 2.0))
