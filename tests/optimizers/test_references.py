"""Fifty steps against loops in NumPy, written from the papers' formulas."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests.cases.optimizers import KINDS, OPTIMIZERS, OptimizerCase, decaying, gradients_for, run_all, tree
from tests.compare import assert_close
from tests.public import public_optimizers

RATES = {"number": 0.05, "schedule": decaying}
RUNS = [(case, "number") for case in OPTIMIZERS] + [(case, "schedule") for case in KINDS]


@pytest.fixture(scope="module")
def fifty_steps() -> Any:
    """The parameters after every step, of all cases and rates."""
    with jax.enable_x64(True):
        params = tree(jnp.float64)
        gradients = gradients_for(params)
        made = {f"{case} {rate}": case.make(RATES[rate]) for case, rate in RUNS}
        return params, gradients, run_all(made, params, gradients)


@pytest.mark.parametrize(("case", "rate"), RUNS, ids=str)
@pytest.mark.usefixtures("x64")
def test_fifty_steps_equal_the_reference(case: OptimizerCase, rate: str, fifty_steps: Any) -> None:
    params, gradients, found = fifty_steps
    assert_close(found[f"{case} {rate}"], case.expected(params, gradients, RATES[rate]))


def test_every_public_optimizer_has_a_case() -> None:
    assert {function.__name__ for function in public_optimizers()} == {case.name.split(",")[0] for case in OPTIMIZERS}
