"""What values are made of, as names and numbers."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnnet import Cost, Dense, losses, optimizers, schedules
from fnnet.description import description


def test_the_example_of_the_docstring() -> None:
    found = description(optimizers.adam(1e-3).update)
    assert found[".update.learning_rate"] == 1e-3
    assert found[".update.caller"] == "optimizers.adam"


def of(number: float) -> list[Any]:
    """Return values of every kind, built anew."""
    return [
        optimizers.adam(number),
        optimizers.chain(optimizers.clip_by_global_norm(1.0), optimizers.sgd(schedules.cosine(number, 100))),
        optax.adam(number),
        Cost(Dense(int(number)), losses.softmax_cross_entropy),
        partial(max, key=number),
        {"a": (number, [True, "b"])},
        np.full(3, number),
        jnp.full(3, number, "bfloat16"),
    ]


@pytest.mark.parametrize("i", range(len(of(1.0))))
def test_equal_if_built_alike(i: int) -> None:
    assert description(of(1.0)[i]) == description(of(1.0)[i])
    assert description(of(1.0)[i]) != description(of(2.0)[i])


def test_lambdas_differ_by_their_code() -> None:
    assert description(lambda z: z + 1) != description(lambda z: z - 1)


def test_a_function_that_encloses_itself() -> None:
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    assert description(factorial) == description(factorial)
    assert len(description(factorial)) == 2
