"""Cost and metrics over a data set."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import BatchNorm, Cost, Dense, accuracy, evaluate, fit, losses, penalties, sequential
from fnnet.data import from_arrays
from fnnet.optimizers import sgd
from tests.cases import random_params
from tests.training.problems import COST, DATA, LABELS, NETWORK, PARAMS, X, key


@pytest.mark.parametrize("batch_size", [1, 3, 4, 5, 10, 100])
def test_exact_for_any_batch_size(batch_size: int) -> None:
    """A mean over the examples, not over the batches; of 10 examples, 3 and 4 at a time leave a smaller last batch."""
    cost = Cost(COST.model, COST.loss, penalties.l2(0.3))
    result = jax.jit(lambda p: evaluate(cost, p, DATA, {"accuracy": accuracy}, batch_size=batch_size))(PARAMS)
    assert float(result["cost"]) == pytest.approx(float(cost(PARAMS, DATA)), rel=1e-6)
    right = np.asarray(COST.model.apply(PARAMS, X)).argmax(-1) == np.asarray(LABELS)
    assert 0 < right.mean() < 1
    assert float(result["accuracy"]) == pytest.approx(right.mean(), rel=1e-6)
    assert set(result) == {"cost", "accuracy"}


def test_without_metrics_and_with_dropout() -> None:
    """The network is the deterministic one: no key is needed."""
    params = random_params(NETWORK.model, X)
    assert float(evaluate(NETWORK, params, DATA)["cost"]) == pytest.approx(float(NETWORK(params, DATA)), rel=1e-6)


def test_sequences() -> None:
    """A mean over every position, in batches as at once."""
    x = jnp.arange(24.0).reshape(4, 3, 2)
    cost = Cost(Dense(2), losses.squared_error)
    params = {"w": jnp.eye(2), "b": jnp.ones(2)}
    result = evaluate(cost, params, (x, jnp.zeros_like(x)), batch_size=3)
    assert float(result["cost"]) == pytest.approx(float(cost(params, (x, jnp.zeros_like(x)))), rel=1e-6)


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], [1, 1], [1, 0]),
        ([[1.0, 1.0]], [0], [1]),  # a tie goes to the first
        ([[1.0, 1.0]], [1], [0]),
        ([[1.0, 2.0]], [[0.3, 0.7]], [1]),
        ([[[1.0, 2.0], [2.0, 1.0]]], [[1, 1]], [[1, 0]]),
    ],
)
def test_accuracy(prediction: Any, target: Any, expected: Any) -> None:
    result = accuracy(jnp.array(prediction), jnp.array(target))
    np.testing.assert_array_equal(result, np.array(expected, "float32"))
    assert result.dtype == jnp.float32


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_accuracy_takes_labels_of_any_integer_dtype(dtype: str) -> None:
    np.testing.assert_array_equal(accuracy(jnp.eye(3), jnp.array([0, 2, 2], dtype)), [1, 0, 1])


@pytest.mark.usefixtures("x64")
def test_accuracy_in_float64() -> None:
    np.testing.assert_array_equal(accuracy(jnp.eye(2), jnp.array([0, 0], "int32")), [1, 0])


def test_accuracy_refuses_labels_as_a_column() -> None:
    with pytest.raises(ValueError, match=r"accuracy: target has shape \(2, 1\) .*drop the last axis"):
        accuracy(jnp.eye(2), jnp.zeros((2, 1), int))


def test_refused() -> None:
    with pytest.raises(ValueError, match="evaluate: batch_size is 0"):
        evaluate(COST, PARAMS, DATA, batch_size=0)
    with pytest.raises(ValueError, match=r"evaluate: mean gave shape \(\) for 10 examples; expected one number per ex"):
        evaluate(COST, PARAMS, DATA, {"mean": lambda prediction, target: jnp.mean(prediction)})
    with pytest.raises(ValueError, match=r"evaluate: x has shape .* expected the same number of examples"):
        evaluate(COST, PARAMS, (X, LABELS[:-1]))


def test_accuracy_of_one_column_is_refused() -> None:
    """It would be 1 whatever the prediction: the column is the largest of its row."""
    with pytest.raises(ValueError, match="a single class on its last axis; expected at least 2 classes"):
        accuracy(jnp.ones((4, 1)), jnp.zeros((4, 1)))


def test_a_metric_cannot_take_the_name_of_the_cost() -> None:
    with pytest.raises(ValueError, match='a metric is named "cost"'):
        evaluate(COST, PARAMS, DATA, {"cost": accuracy})


def test_a_masked_array_is_refused() -> None:
    with pytest.raises(TypeError, match="evaluate: x is a masked array, whose mask would be lost"):
        evaluate(COST, PARAMS, (np.ma.masked_array(X, np.isnan(X)), LABELS))


class TestBatchNorm:
    """Its output depends on the batch, and so would the numbers of a set that is divided into batches."""

    cost = Cost(sequential(BatchNorm(), Dense(3)), losses.softmax_cross_entropy)
    params = ({"scale": jnp.ones(3), "shift": jnp.zeros(3)}, PARAMS)

    @pytest.mark.parametrize("batch_size", [3, 9, 10])
    def test_a_set_in_memory_is_one_batch(self, batch_size: int) -> None:
        x = np.asarray(X, np.float64)
        logits = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) @ np.asarray(PARAMS["w"]) + np.asarray(PARAMS["b"])
        each = np.log(np.exp(logits).sum(1)) - logits[np.arange(10), np.asarray(LABELS)]
        found = evaluate(self.cost, self.params, DATA, batch_size=batch_size)["cost"]
        np.testing.assert_allclose(found, each.mean(), rtol=1e-5)
        options = {"key": key(), "epochs": 1, "batch_size": 5, "validation": DATA}
        history = fit(self.cost, sgd(0.0), self.params, DATA, **options).history
        np.testing.assert_allclose(history["validation_cost"], each.mean(), rtol=1e-5)

    def test_a_stream_must_be_one(self) -> None:
        whole, divided = (from_arrays(*map(np.asarray, DATA), size, shuffle=False) for size in (10, 5))
        expected = evaluate(self.cost, self.params, DATA)["cost"]
        np.testing.assert_allclose(evaluate(self.cost, self.params, whole)["cost"], expected, rtol=1e-6)
        with pytest.raises(
            ValueError, match="evaluate: the model has BatchNorm, so the numbers of a stream would depend"
        ):
            evaluate(self.cost, self.params, divided)

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_last_batch_of_one_example(self, stream: bool) -> None:
        data: Any = from_arrays(*map(np.asarray, DATA), 3) if stream else DATA
        options = {"key": key(), "epochs": 1} | ({} if stream else {"batch_size": 3})
        with pytest.raises(ValueError, match="fit: the last batch would be a single example of 10, whose variance"):
            fit(self.cost, sgd(0.1), self.params, data, **options)
