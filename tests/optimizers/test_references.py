"""Fifty steps of every optimizer are compared with loops in NumPy, written from the formulas of the papers."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests.cases.optimizers import OPTIMIZERS, OptimizerCase, gradients_for, run_all, tree
from tests.compare import assert_close
from tests.public import public_optimizers

RATE = 0.05  # schedules of the rate are tested with fewer steps in test_properties.py


@pytest.fixture(scope="module")
def fifty_steps() -> Any:
    """Return the parameters after every step of all cases."""
    with jax.enable_x64(True):
        params = tree(jnp.float64)
        gradients = gradients_for(params)
        return params, gradients, run_all({case.name: case.make(RATE) for case in OPTIMIZERS}, params, gradients)


@pytest.mark.parametrize("case", OPTIMIZERS, ids=str)
@pytest.mark.usefixtures("x64")
def test_fifty_steps_equal_the_reference(case: OptimizerCase, fifty_steps: Any) -> None:
    params, gradients, found = fifty_steps
    assert_close(found[case.name], case.expected(params, gradients, RATE))


def test_every_public_optimizer_has_a_case() -> None:
    assert {function.__name__ for function in public_optimizers()} == {case.name.split(",")[0] for case in OPTIMIZERS}
