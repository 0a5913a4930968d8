"""Names of the leaves of a parameter tree."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import pytest

from fnnet import Dense, sequential
from fnnet.paths import is_weight, map_named, named_leaves
from tests.cases import random_params


class Pair(NamedTuple):
    first: Any
    second: Any


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        (({"w": 1, "b": 2}, {}, {"w": 3}), ["0.b", "0.w", "2.w"]),
        ([{"w": 1}], ["0.w"]),
        (Pair({"w": 1}, 2), ["first.w", "second"]),
        (7, [""]),
        ({}, []),
        (((), ({"w": 1},)), ["1.0.w"]),
    ],
)
def test_names(tree: Any, names: list[str]) -> None:
    assert [name for name, _ in named_leaves(tree)] == names


def test_names_of_a_network_in_a_network() -> None:
    model = sequential(Dense(2), sequential(Dense(1, use_bias=False)))
    assert [name for name, _ in named_leaves(random_params(model, jnp.ones((1, 3))))] == ["0.b", "0.w", "1.0.w"]


def test_map_named() -> None:
    tree, other = ({"w": 1, "b": 2},), ({"w": 10, "b": 20},)
    assert map_named(lambda name, a, b: (name, a + b), tree, other) == ({"w": ("0.w", 11), "b": ("0.b", 22)},)


@pytest.mark.parametrize("shape", [(3, 2), (1, 1), (3, 3, 1, 8)])
def test_weights(shape: tuple[int, ...]) -> None:
    assert is_weight(jnp.zeros(shape))


@pytest.mark.parametrize("shape", [(), (1,), (8,)])
def test_no_weights(shape: tuple[int, ...]) -> None:
    assert not is_weight(jnp.zeros(shape))
