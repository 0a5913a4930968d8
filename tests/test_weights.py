"""Weights of the examples, the third part of a batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, backprop, losses, penalties, sequential, softmax, tanh
from tests.compare import assert_close
from tests.training.problems import LABELS, PARAMS, X

ENGINES = pytest.mark.parametrize("engine", [jax.value_and_grad, backprop.value_and_grad], ids=["autodiff", "by hand"])
COSTS = {
    "classes": Cost(Dense(3), losses.softmax_cross_entropy, penalties.l2(0.1)),
    "fused": Cost(sequential(Dense(3), softmax), losses.cross_entropy),
    "an ignored label": Cost(Dense(3), losses.softmax_cross_entropy, ignore_label=1),
}


def params_of(cost: Cost) -> Any:
    return PARAMS if isinstance(cost.model, Dense) else (PARAMS, {})


@ENGINES
@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
def test_examples_of_weight_zero_are_not_there(cost: Cost, engine: Any) -> None:
    x, y = jnp.concatenate([X, X[:4] + 9]), jnp.concatenate([LABELS, LABELS[3:7]])
    weights = jnp.arange(14) < 10
    padded = engine(cost)(params_of(cost), (x, y, weights.astype("float32")))
    assert_close(padded, engine(cost)(params_of(cost), (X, LABELS)), 1e-6)


@ENGINES
def test_whole_weights_are_repetitions(engine: Any) -> None:
    cost, weights = COSTS["classes"], np.array([1, 2, 0, 3, 1, 1, 5, 0, 1, 2])
    repeated = (jnp.repeat(X, weights, axis=0), jnp.repeat(LABELS, weights))
    weighted = (X, LABELS, jnp.asarray(weights, "float32"))
    assert_close(engine(cost)(PARAMS, weighted), engine(cost)(PARAMS, repeated), 1e-6)
    tenth = (X, LABELS, jnp.asarray(weights / 100, "float32"))  # only their ratios count, also below 1
    assert_close(engine(cost)(PARAMS, tenth), engine(cost)(PARAMS, repeated), 1e-6)


@ENGINES
def test_a_weight_per_step_of_a_sequence(engine: Any) -> None:
    cost = Cost(sequential(Dense(3), tanh, Dense(3)), losses.softmax_cross_entropy)
    x, y = X[:9].reshape(3, 3, 3), LABELS[:9].reshape(3, 3)
    params = (PARAMS, {}, PARAMS)
    weights = jnp.arange(3)[None] < jnp.array([3, 1, 2])[:, None]
    chosen = np.flatnonzero(np.asarray(weights))
    expected = engine(cost)(params, (X[:9][chosen], LABELS[:9][chosen]))
    assert_close(engine(cost)(params, (x, y, weights.astype("float32"))), expected, 1e-6)


@ENGINES
def test_no_weight_at_all_gives_zero(engine: Any) -> None:
    """Where weights are known they are refused (see ``test_cost``); in a compiled program they may come."""
    value, grads = jax.jit(engine(Cost(Dense(3), losses.softmax_cross_entropy)))(PARAMS, (X, LABELS, jnp.zeros(10)))
    assert float(value) == 0
    assert not any(g.any() for g in jax.tree.leaves(grads))


@ENGINES
def test_weights_that_do_not_fit(engine: Any) -> None:
    with pytest.raises(ValueError, match=r"Cost: weights has shape \(9,\), which does not fit x of shape"):
        engine(COSTS["classes"])(PARAMS, (X, LABELS, jnp.ones(9)))
    with pytest.raises(TypeError, match="Cost: weights has dtype int32; expected floating point"):
        engine(COSTS["classes"])(PARAMS, (X, LABELS, jnp.ones(10, int)))
