"""Ignored labels in evaluation and training."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, backprop, evaluate, fit, losses, penalties, train_step
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
