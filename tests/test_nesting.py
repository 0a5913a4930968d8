"""The walk over nested layers: every combinator says what it is made of, by the names of its parameters."""

from dataclasses import fields
from typing import Any

import jax.numpy as jnp
import pytest

from fnnet import (
    BatchNorm,
    Bidirectional,
    Dense,
    GRUCell,
    LowPrecision,
    Recurrent,
    Rematerialized,
    Residual,
    Truncated,
    relu,
    sequential,
)
from fnnet.backprop import as_custom_vjp
from fnnet.layers import children, nested
from fnnet.layers.combinators import IDENTITY
from fnnet.layers.nesting import child_params, holds
from fnnet.paths import named_leaves
from fnnet.types import Layer
from tests.cases import LAYERS, LayerCase, random_params

every_layer = pytest.mark.parametrize("case", LAYERS, ids=str)


def layers_in_fields(layer: Any) -> list[Layer]:
    values = [getattr(layer, field.name) for field in fields(layer)]
    each = [entry for value in values for entry in (value if isinstance(value, tuple) else (value,))]
    return [entry for entry in each if isinstance(entry, Layer)]


@every_layer
def test_a_layer_that_holds_layers_has_them_as_children(case: LayerCase) -> None:
    layer = case.build()
    found = [child for _, child in children(layer)]
    if isinstance(layer, Bidirectional):  # it holds cells, and runs them in two layers
        assert found == list(layer.directions.values())
    else:
        assert [child for child in found if child is not IDENTITY] == layers_in_fields(layer)


@every_layer
def test_names_are_those_of_the_parameters(case: LayerCase) -> None:
    layer, params = case.build(), case.params(jnp.float32)
    of_children = {
        ".".join(filter(None, (name, path)))
        for name, _ in children(layer)
        for path, _ in named_leaves(child_params(params, name))
    }
    assert of_children == ({path for path, _ in named_leaves(params)} if children(layer) else set())


def test_nested_walk() -> None:
    block = Residual(LowPrecision(sequential(Dense(3), relu)), Dense(3, use_bias=False))
    again = Rematerialized(Recurrent(GRUCell(3)))
    model = sequential(block, as_custom_vjp(again), Truncated(again.layer, 2), Bidirectional(GRUCell(2)))
    paths = [(path, type(layer).__name__) for path, layer in nested(model)]
    assert paths == [
        ("", "Sequential"),
        ("0", "Residual"),
        ("0.layer", "LowPrecision"),
        ("0.layer", "Sequential"),
        ("0.layer.0", "Dense"),
        ("0.layer.1", "Activation"),
        ("0.shortcut", "Dense"),
        ("1", "CustomVJP"),
        ("1", "Rematerialized"),
        ("1", "Recurrent"),
        ("2", "Truncated"),
        ("2", "Recurrent"),
        ("3", "Bidirectional"),
        ("3.forward", "Recurrent"),
        ("3.backward", "Recurrent"),
    ]
    leaves = {path.rpartition(".")[0] for path, _ in named_leaves(random_params(model, jnp.ones((2, 4, 3))))}
    assert leaves == {"0.layer.0", "0.shortcut", "1", "2", "3.forward", "3.backward"}


def test_holds() -> None:
    model = sequential(Dense(2), Residual(as_custom_vjp(sequential(BatchNorm(), relu))))
    assert holds(model, BatchNorm)
    assert holds(BatchNorm(), BatchNorm)
    assert not holds(sequential(Dense(2), relu), BatchNorm)
