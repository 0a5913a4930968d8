"""Penalties on the weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, losses, penalties
from fnnet.backprop.penalties import penalty_gradient
from fnnet.paths import named_leaves
from tests import reference
from tests.cases import PENALTIES, PenaltyCase, network_params
from tests.compare import assert_close

PARAMS = ({"w": jnp.array([[1.0, -2.0], [0.0, 3.0]]), "b": jnp.array([100.0])},)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", PENALTIES, ids=str)
def test_value_equals_reference(case: PenaltyCase) -> None:
    params = network_params(jnp.float64)
    value = reference.PENALTIES[type(case.penalty)].value
    where = case.penalty.where
    weights = [np.asarray(w) for name, w in named_leaves(params) if (where(name) if where else w.ndim >= 2)]
    assert_close(case.penalty(params), sum(value(case.penalty, w) for w in weights))


@pytest.mark.parametrize(
    ("penalty", "value", "gradient"),
    [
        (penalties.l1(0.5), 3.0, [[0.5, -0.5], [0.0, 0.5]]),
        (penalties.l2(0.5), 3.5, [[0.5, -1.0], [0.0, 1.5]]),
        (penalties.elastic_net(0.5, 0.5), 6.5, [[1.0, -1.5], [0.0, 2.0]]),
        (penalties.l2(0.0), 0.0, [[0.0, 0.0], [0.0, 0.0]]),
    ],
)
def test_known_answers_with_the_bias_free(penalty: Any, value: float, gradient: list[list[float]]) -> None:
    assert float(penalty(PARAMS)) == value
    (grads,) = penalty_gradient(penalty, PARAMS)
    np.testing.assert_array_equal(grads["w"], gradient)
    np.testing.assert_array_equal(grads["b"], [0.0])


def test_where_chooses_by_name() -> None:
    assert float(penalties.l1(1.0, where=lambda name: name == "0.b")(PARAMS)) == 100
    assert float(penalties.l1(1.0, where=lambda name: True)(PARAMS)) == 106


@pytest.mark.parametrize("case", PENALTIES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtype_is_kept(case: PenaltyCase, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        params = network_params(dtype)
        assert jax.eval_shape(case.penalty, params).dtype == jnp.dtype(dtype)
        grads = jax.eval_shape(lambda p: penalty_gradient(case.penalty, p), params)
        assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(dtype)}


def test_layers_of_different_dtypes() -> None:
    """A bfloat16 body with a float32 head: every weight counts, and the sum has the wider dtype."""
    params = ({"w": jnp.ones((3, 1), "bfloat16")}, {"w": jnp.ones((1, 2))})
    value = penalties.l1(2.0)(params)
    assert (float(value), value.dtype) == (10.0, jnp.float32)


def test_compare_by_value() -> None:
    assert penalties.l2(0.1) == penalties.l2(0.1)
    assert hash(penalties.l2(0.1)) == hash(penalties.l2(0.1))
    assert penalties.l2(0.1) != penalties.l2(0.2)
    assert penalties.l2(0.1) != penalties.l1(0.1)


def test_a_traced_strength() -> None:
    """A penalty may be made inside a transformation, to sweep its strength."""
    values = jax.vmap(lambda strength: penalties.l2(strength)(PARAMS))(jnp.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(values, [0, 7, 14])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: penalties.l1(-1), r"penalties.l1: strength is -1; expected a number in \[0, inf\)"),
        (lambda: penalties.l2(float("nan")), "penalties.l2: strength is nan"),
        (lambda: penalties.l2(float("inf")), "penalties.l2: strength is inf"),
        (lambda: penalties.elastic_net(-1, 0), "penalties.elastic_net: l1 is -1"),
        (lambda: penalties.elastic_net(0, -1), "penalties.elastic_net: l2 is -1"),
        (lambda: penalties.l2(1.0, where="9.w".__eq__)(PARAMS), r"none of the parameters \['0.b', '0.w'\]; change its"),
        (lambda: penalties.l1(1.0)({}), r"applies to none of the parameters \[\]"),
    ],
)
def test_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_cost_with_a_penalty_that_counts_nothing_is_refused() -> None:
    cost = Cost(Dense(1), losses.squared_error, penalties.l2(1.0, where="2.w".__eq__))
    params = {"w": jnp.ones((1, 1)), "b": jnp.ones(1)}
    with pytest.raises(ValueError, match="applies to none of the parameters"):
        cost(params, (jnp.ones((2, 1)), jnp.ones((2, 1))))
