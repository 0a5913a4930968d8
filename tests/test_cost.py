"""The cost: the mean loss plus the penalty."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, Dropout, losses, penalties, sequential
from tests.compare import CountingTraces

PARAMS = {"w": jnp.array([[2.0]]), "b": jnp.array([1.0])}
BATCH = (jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [0.0]]))


def test_known_answer() -> None:
    """Predictions 1 and 3, targets 0: losses 1 and 9, mean 5; plus ½ · 0.5 · 2² = 1."""
    assert float(Cost(Dense(1), losses.squared_error)(PARAMS, BATCH)) == 5
    assert float(Cost(Dense(1), losses.squared_error, penalties.l2(0.5))(PARAMS, BATCH)) == 6


def test_the_penalty_is_not_divided_by_the_number_of_examples() -> None:
    cost = Cost(Dense(1), losses.squared_error, penalties.l2(0.5))
    twice = jax.tree.map(lambda a: jnp.concatenate([a, a]), BATCH)
    assert float(cost(PARAMS, twice)) == 6


def test_the_mean_of_a_sequence_is_over_every_position() -> None:
    x = jnp.arange(6.0).reshape(2, 3, 1)
    cost = Cost(Dense(1, use_bias=False), losses.squared_error)
    assert float(cost({"w": jnp.ones((1, 1))}, (x, jnp.zeros_like(x)))) == pytest.approx(np.mean(np.arange(6.0) ** 2))


def test_key_and_train_reach_the_model() -> None:
    cost = Cost(sequential(Dropout(0.5)), losses.squared_error)
    x = jnp.ones((10, 4))
    assert float(cost(({},), (x, x))) == 0
    assert float(cost(({},), (x, x), key=jax.random.key(0), train=True)) == 1  # each entry is 0 or 2
    with pytest.raises(ValueError, match="key is None"):
        cost(({},), (x, x), train=True)


def test_compares_by_value_and_is_a_static_argument() -> None:
    traced = CountingTraces(lambda cost, params, batch: cost(params, batch))
    run = jax.jit(traced, static_argnums=0)
    for _ in range(2):
        assert float(run(Cost(Dense(1), losses.squared_error, penalties.l2(0.5)), PARAMS, BATCH)) == 6
    assert traced.count == 1
    assert Cost(Dense(1), losses.squared_error) != Cost(Dense(1), losses.half_squared_error)


def test_a_list_is_a_batch_too() -> None:
    assert float(Cost(Dense(1), losses.squared_error)(PARAMS, list(BATCH))) == 5


def scalar_loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.square(prediction - target).mean()


X, Y = BATCH
COST = Cost(Dense(1), losses.squared_error)
REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: COST(PARAMS, X), TypeError, r"Cost: batch is ArrayImpl; expected a pair \(x, y\)"),
    (lambda: COST(PARAMS, (X, Y, X, Y)), TypeError, "Cost: batch is tuple; expected a pair"),
    (lambda: COST(PARAMS, (X, Y[:1])), ValueError, r"x has shape \(2, 1\) and y has shape \(1, 1\); expected the same"),
    (lambda: COST(PARAMS, (X[:0], Y[:0])), ValueError, r"x has shape \(0, 1\) .* at least one"),
    (lambda: COST(PARAMS, (1.0, 1.0)), ValueError, r"x has shape \(\)"),
    (lambda: Cost(Dense(1), scalar_loss)(PARAMS, BATCH), ValueError, r"scalar_loss gave shape \(\) .* one number per"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
