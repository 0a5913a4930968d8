"""Ignored labels in evaluation and training."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, accuracy, backprop, bind, evaluate, fit, losses, metrics, penalties, sweep, train_step
from fnnet.data import from_arrays
from fnnet.optimizers import sgd
from fnnet.training import TrainState
from tests.compare import assert_close
from tests.training.problems import LABELS, PARAMS, X, key

IGNORED = -1
SOME = LABELS.at[jnp.array([0, 3, 4, 8])].set(IGNORED)
COUNTED = np.flatnonzero(np.asarray(SOME) != IGNORED)
COST = Cost(Dense(3), losses.softmax_cross_entropy, penalties.l2(0.1), ignore_label=IGNORED)
PLAIN = Cost(Dense(3), losses.softmax_cross_entropy, penalties.l2(0.1))


@pytest.mark.parametrize("batch_size", [3, 4, 5, 100])
def test_evaluate_is_exact_over_uneven_batches(batch_size: int) -> None:
    """A mean over the counted examples, however many of them a batch has; of 10, some are left for a smaller one."""
    result = jax.jit(lambda p: evaluate(COST, p, (X, SOME), batch_size=batch_size))(PARAMS)
    expected = PLAIN(PARAMS, (X[COUNTED], LABELS[COUNTED]))
    assert float(result["cost"]) == pytest.approx(float(expected), rel=1e-6)


def test_evaluate_when_a_batch_or_all_is_ignored() -> None:
    half = LABELS.at[:5].set(IGNORED)
    expected = PLAIN(PARAMS, (X[5:], LABELS[5:]))
    assert float(evaluate(COST, PARAMS, (X, half), batch_size=5)["cost"]) == pytest.approx(float(expected), rel=1e-6)
    nothing = evaluate(COST, PARAMS, (X, jnp.full(10, IGNORED)), batch_size=4)
    assert float(nothing["cost"]) == pytest.approx(float(COST.penalty(PARAMS)), rel=1e-6)


@pytest.mark.parametrize("engine", [jax.value_and_grad, backprop.value_and_grad], ids=["autodiff", "by hand"])
def test_a_step_is_that_of_the_counted_examples(engine: Any) -> None:
    def after(cost: Cost, *batch: jax.Array) -> Any:
        step = jax.jit(train_step(cost, sgd(0.5), engine))
        state, metrics = step(TrainState.create(PARAMS, sgd(0.5), key()), batch)
        return state.params, metrics

    assert_close(after(COST, X, SOME), after(PLAIN, X[COUNTED], LABELS[COUNTED]), 1e-6)


def test_fit_takes_the_ignored_label_and_no_other() -> None:
    options = {"key": key(), "epochs": 1, "batch_size": 5}
    result = fit(COST, sgd(0.1), PARAMS, (X, SOME), validation=(X, SOME), **options)
    assert np.isfinite(result.history["cost"]).all()
    assert np.isfinite(result.history["validation_cost"]).all()
    for bad in (3, -2):
        with pytest.raises(ValueError, match=rf"fit: .*label {bad} \(first at \(1,\)\) is outside 0 .. 2"):
            fit(COST, sgd(0.1), PARAMS, (X, SOME.at[1].set(bad)), **options)
    with pytest.raises(ValueError, match=rf"label {IGNORED} \(first at \(0,\)\) is outside 0 .. 2"):
        fit(PLAIN, sgd(0.1), PARAMS, (X, SOME), **options)


FEW = jnp.full(10, IGNORED).at[jnp.array([1, 6])].set(LABELS[jnp.array([1, 6])])
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)
UNPENALIZED = Cost(Dense(3), losses.softmax_cross_entropy, ignore_label=IGNORED)


def test_the_cost_of_an_epoch_is_a_mean_over_what_was_counted() -> None:
    """Every counted label costs log 3, and most batches have none: of arrays, of a stream and in a sweep."""
    options = {"key": key(), "epochs": 1}
    arrays, stream = (X, FEW), from_arrays(np.asarray(X), np.asarray(FEW), batch_size=3)
    found = [
        fit(UNPENALIZED, sgd(0.0), ZEROS, arrays, batch_size=3, validation=arrays, **options).history,
        fit(UNPENALIZED, sgd(0.0), ZEROS, stream, validation=stream, **options).history,
        sweep(
            lambda scale: (UNPENALIZED, sgd(0.0), scale),
            {"scale": np.zeros(1)},
            arrays,
            batch_size=3,
            validation=arrays,
            **options,
        ).history,
    ]
    for history in found:
        for name in ("cost", "validation_cost"):
            assert float(np.ravel(history[name])[0]) == pytest.approx(np.log(3), rel=1e-6)


@pytest.mark.parametrize("batch_size", [3, 10])
@pytest.mark.parametrize("streamed", [False, True])
def test_no_metric_counts_what_the_cost_ignores(streamed: bool, batch_size: int) -> None:
    chosen = {
        "accuracy": accuracy,
        "top": bind(metrics.top_k_accuracy, k=2),
        "confusion": metrics.confusion_matrix,
    }
    data = from_arrays(np.asarray(X), np.asarray(SOME), batch_size=batch_size) if streamed else (X, SOME)
    found = evaluate(COST, PARAMS, data, chosen, **({} if streamed else {"batch_size": batch_size}))
    expected = evaluate(PLAIN, PARAMS, (X[COUNTED], LABELS[COUNTED]), chosen)
    assert int(found["confusion"].sum()) == len(COUNTED)
    for name, number in expected.items():
        np.testing.assert_allclose(found[name], number, rtol=1e-6, err_msg=name)


def test_metrics_of_padded_sequences() -> None:
    """All real positions are right: fit's accuracy is 1, and the matrix has one count for each of them."""
    labels = jnp.array([[0, 1, 2, 1], [2, IGNORED, IGNORED, IGNORED]])
    x = jax.nn.one_hot(labels, 3)
    params = {"w": jnp.eye(3), "b": jnp.zeros(3)}
    chosen = {"accuracy": accuracy, "confusion": metrics.confusion_matrix}
    found = evaluate(UNPENALIZED, params, (x, labels), chosen, batch_size=1)
    assert float(found["accuracy"]) == 1
    np.testing.assert_array_equal(found["confusion"], np.diag([1, 2, 2]))
    options = {"validation": (x, labels), "metrics": {"accuracy": accuracy}, "key": key(), "epochs": 1}
    result = fit(UNPENALIZED, sgd(0.0), params, (x, labels), batch_size=1, **options)
    assert float(result.history["validation_accuracy"][0]) == 1


def test_a_sweep_of_the_options_of_a_loss() -> None:
    """At equal logits, where p = 1/3 and ℓ = (2/3)^γ log 3 Σ t_c."""
    settings = {
        "gamma": np.array([0.0, 2.0]),
        "smoothing": np.array([0.0, 0.3]),
        "weight": np.array([1.0, 4.0]),
        "scale": np.zeros(2),
    }

    def make(gamma: Any, smoothing: Any, weight: Any, scale: Any) -> Any:
        loss = bind(losses.focal, gamma=gamma, smoothing=smoothing, class_weights=(weight, 1.0, 1.0))
        return Cost(Dense(3), loss), sgd(0.0), scale

    history = sweep(make, settings, (X, LABELS), key=key(), epochs=1, batch_size=10).history
    first = np.mean(np.asarray(LABELS) == 0)
    for i, found in enumerate(history["cost"][:, 0]):
        gamma, smoothing, weight = (settings[name][i] for name in ("gamma", "smoothing", "weight"))
        sum_t = 1 + (weight - 1) * ((1 - smoothing) * first + smoothing / 3)
        assert float(found) == pytest.approx((2 / 3) ** gamma * np.log(3) * sum_t, rel=1e-5)
