"""Fifty steps against loops in NumPy, written from the papers' formulas."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests.cases.optimizers import OPTIMIZERS, OptimizerCase, decaying, gradients_for, run_all, tree
from tests.compare import assert_close
from tests.public import public_optimizers

RATES = {"number": 0.05, "schedule": decaying}


@pytest.fixture(scope="module", params=RATES)
def fifty_steps(request: pytest.FixtureRequest) -> Any:
    """The parameters after every step, of all cases, with one rate."""
    rate = RATES[request.param]
    with jax.enable_x64(True):
        params = tree(jnp.float64)
        gradients = gradients_for(params)
        made = {case.name: case.make(rate) for case in OPTIMIZERS}
        return rate, params, gradients, run_all(made, params, gradients)


@pytest.mark.parametrize("case", OPTIMIZERS, ids=str)
@pytest.mark.usefixtures("x64")
def test_fifty_steps_equal_the_reference(case: OptimizerCase, fifty_steps: Any) -> None:
    rate, params, gradients, found = fifty_steps
    assert_close(found[case.name], case.expected(params, gradients, rate))


def test_every_public_optimizer_has_a_case() -> None:
    assert {function.__name__ for function in public_optimizers()} == {case.name.split(",")[0] for case in OPTIMIZERS}
