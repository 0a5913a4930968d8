"""Metrics over uneven batches, against loops in NumPy and scikit-learn."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from fnnet import Activation, Cost, Dense, bind, evaluate, identity, losses, metrics
from tests.training.problems import COST, DATA, LABELS, PARAMS, X

BATCH_SIZES = pytest.mark.parametrize("batch_size", [3, 5, 1024])
SCORES = np.asarray(Dense(3).apply(PARAMS, X))
REAL = Cost(Activation(identity), losses.squared_error)


@BATCH_SIZES
def test_classes(batch_size: int) -> None:
    chosen = {
        "accuracy": metrics.accuracy,
        "top": bind(metrics.top_k_accuracy, k=2),
        "confusion": metrics.confusion_matrix,
    }
    result = jax.jit(lambda p: evaluate(COST, p, DATA, chosen, batch_size=batch_size))(PARAMS)
    labels = np.asarray(LABELS)
    confusion = sklearn.metrics.confusion_matrix(labels, SCORES.argmax(1), labels=range(3))
    np.testing.assert_array_equal(result["confusion"], confusion)
    assert result["confusion"].dtype == jnp.int32
    assert float(result["accuracy"]) == pytest.approx(np.trace(result["confusion"]) / 10)
    top = sklearn.metrics.top_k_accuracy_score(labels, SCORES, k=2, labels=range(3))
    assert float(result["top"]) == pytest.approx(top)
    assert float(result["accuracy"]) < float(result["top"]) < 1


@BATCH_SIZES
def test_real_outputs(batch_size: int) -> None:
    """Targets far from 0: sums of squares would have lost their scatter in float32."""
    rng = np.random.default_rng(0)
    y = (rng.standard_normal((10, 2)) + np.array([1000, 0])).astype("float32")
    prediction = (y + 0.5 * rng.standard_normal((10, 2))).astype("float32")
    chosen = {"r": metrics.r_squared, "mae": losses.absolute_error}
    result = evaluate(REAL, {}, (prediction, y), chosen, batch_size=batch_size)
    wide, target = prediction.astype(float), y.astype(float)
    assert float(result["r"]) == pytest.approx(sklearn.metrics.r2_score(target, wide), abs=1e-5)
    assert float(result["mae"]) == pytest.approx(sklearn.metrics.mean_absolute_error(target, wide), rel=1e-5)


def test_r_squared_of_targets_that_never_change() -> None:
    y = jnp.full((4, 1), 3.0)
    for prediction, expected in ((y, 1.0), (y + 1, -np.inf)):
        assert float(evaluate(REAL, {}, (prediction, y), {"r": metrics.r_squared}, batch_size=3)["r"]) == expected


@pytest.mark.parametrize("y", [[[3.0], [3.0]], [[3.0], [4.0]]])
def test_r_squared_of_nan_predictions(y: Any) -> None:
    result = evaluate(REAL, {}, (jnp.array([[jnp.nan], [3.0]]), jnp.array(y)), {"r": metrics.r_squared})
    assert np.isnan(result["r"])


@pytest.mark.parametrize("prediction", [[np.nan, np.nan, np.nan], [np.nan, 1.0, 0.0], [0.0, 1.0, np.nan]])
def test_a_prediction_with_nan_is_of_no_class(prediction: list[float]) -> None:
    p, y = jnp.array([prediction] * 3), jnp.arange(3)
    for metric in (metrics.accuracy, bind(metrics.top_k_accuracy, k=2)):
        np.testing.assert_array_equal(metric(p, y), [0, 0, 0])
        assert not np.asarray(metric(p, jnp.eye(3))).any()
    np.testing.assert_array_equal(metrics.confusion_matrix.statistics(p, y, jnp.ones(3)), np.zeros((3, 3)))


@pytest.mark.parametrize("metric", [metrics.confusion_matrix, metrics.r_squared])
def test_what_does_not_count_may_be_nan(metric: Any) -> None:
    """The padding of a short batch."""
    y = LABELS if metric is metrics.confusion_matrix else X + 1
    found = metric.statistics(X.at[7:].set(jnp.nan), y, (jnp.arange(10) < 7).astype("float32"))
    for one, two in zip(
        jax.tree.leaves(found), jax.tree.leaves(metric.statistics(X[:7], y[:7], jnp.ones(7))), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize("metric", [metrics.accuracy, bind(metrics.top_k_accuracy, k=2)])
def test_no_examples_give_no_numbers(metric: Any) -> None:
    assert metric(jnp.ones((0, 3)), jnp.zeros(0, int)).shape == (0,)


@pytest.mark.parametrize("metric", [metrics.confusion_matrix, metrics.r_squared])
def test_no_examples_change_nothing(metric: Any) -> None:
    """Zeros are the statistics of no examples, and weights of 0 leave examples out."""
    y = LABELS if metric is metrics.confusion_matrix else X + 1
    some = metric.statistics(X, y, jnp.ones(10))
    nothing = jax.tree.map(jnp.zeros_like, some)
    for a, b in ((some, nothing), (nothing, some)):
        for one, two in zip(jax.tree.leaves(metric.merge(a, b)), jax.tree.leaves(some), strict=True):
            np.testing.assert_array_equal(one, two)
    part = metric.statistics(X, y, (jnp.arange(10) < 6).astype("float32"))
    for one, two in zip(
        jax.tree.leaves(part), jax.tree.leaves(metric.statistics(X[:6], y[:6], jnp.ones(6))), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-6)


def test_a_metric_of_ones_own() -> None:
    largest = metrics.Metric(lambda p, y, w: jnp.max(jnp.abs(p - y) * w[:, None]), lambda m: m, jnp.maximum)
    y = X + jnp.arange(10.0)[:, None]
    assert float(evaluate(REAL, {}, (X, y), {"largest": largest}, batch_size=4)["largest"]) == pytest.approx(9)


@pytest.mark.parametrize(
    ("metric", "prediction", "target", "message"),
    [
        (bind(metrics.top_k_accuracy, k=3), SCORES, LABELS, "k is 3 but there are 3 classes"),
        (bind(metrics.top_k_accuracy, k=0), SCORES, LABELS, "top_k_accuracy: k is 0"),
        (losses.absolute_error, SCORES, X[:, :1], "absolute_error: target has shape"),
        (metrics.confusion_matrix, jnp.ones((10, 1)), LABELS, "confusion_matrix: .*a single class"),
        (metrics.r_squared, SCORES, X[:, 0], "r_squared: target has shape"),
    ],
)
def test_refused(metric: Any, prediction: Any, target: Any, message: str) -> None:
    call = metric if not isinstance(metric, metrics.Metric) else lambda p, y: metric.statistics(p, y, jnp.ones(10))
    with pytest.raises(ValueError, match=message):
        call(prediction, target)
