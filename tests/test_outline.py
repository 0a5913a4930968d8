"""The outline of a network: what its rows hold is counted again from the arrays."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Activation,
    Bidirectional,
    Conv,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GRUCell,
    LayerNorm,
    LowPrecision,
    LSTMCell,
    Recurrent,
    Residual,
    RNNCell,
    identity,
    optimizers,
    relu,
    sequential,
    tanh,
    transformer_block,
)
from fnnet.backprop import RULES
from fnnet.inspect import Operations, Outline, Row, operations, outline
from fnnet.paths import named_leaves
from fnnet.types import Array, Params, Shaped
from tests.cases import LAYERS, OF_TOKENS, LayerCase


def batch(*shape: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def rows_of(row: Row) -> Iterator[Row]:
    yield row
    for child in row.children:
        yield from rows_of(child)


def paths(found: Outline) -> list[str]:
    return [f"{row.path} {row.label}".strip() for _, row in found.rows()]


NETWORKS = [
    LayerCase("transformer", lambda: sequential(transformer_block(2, 4), LayerNorm(), Dense(3)), (2, 5, 4)),
    LayerCase("low precision", lambda: LowPrecision(sequential(Dense(4), tanh, Dense(2))), (5, 3)),
    LayerCase("identities", lambda: sequential(Residual(sequential()), Dense(2), identity, Dense(2)), (5, 3)),
    LayerCase("projected", lambda: sequential(tanh, Residual(sequential(tanh, Dense(3)), Dense(3))), (5, 3)),
    LayerCase("nested", lambda: sequential(sequential(sequential(tanh)), sequential(Dense(2), relu), Dense(2)), (5, 3)),
    LayerCase(
        "recurrent",
        lambda: sequential(Bidirectional(GRUCell(2)), Residual(Recurrent(LSTMCell(4))), Recurrent(GRUCell(2), False)),
        (2, 3, 2),
    ),
]
FEW = list({(type(case.build()), case.train): case for case in reversed(LAYERS)}.values())  # one of every type


@pytest.mark.parametrize("case", [*FEW, *OF_TOKENS, *NETWORKS], ids=str)
def test_numbers_are_those_of_the_arrays(case: LayerCase) -> None:
    """Parameters, bytes and residuals; an array that several layers keep is one result of the program."""
    layer, x, params = case.build(), case.x(jnp.float32), case.params(jnp.float32)
    forward = partial(RULES[type(layer)].forward, layer, key=jax.random.key(0), train=True)
    program, (y, _) = jax.make_jaxpr(forward, return_shape=True)(params, x)
    kept = {id(result): result.aval for result in program.jaxpr.outvars[1:]}  # all but y
    root = outline(layer, x, params).root
    assert root.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert root.bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert root.residuals == sum(each.size * each.dtype.itemsize for each in kept.values())
    assert (root.y.shape, root.y.dtype) == (y.shape, y.dtype)
    assert root == outline(layer, batch(*x.shape, dtype=x.dtype)).root  # of shapes alone


def test_a_network_is_the_sum_of_its_layers() -> None:
    model, x = sequential(Dense(8), relu, Dense(3)), batch(16, 9)
    root = outline(model, x).root
    first, second, third = (operations(row.layer, row.x, row.y) for row in root.children)
    assert first
    assert second
    assert third
    assert root.forward == first.forward + second.forward + third.forward
    # The first layer computes no gradient of its input.
    assert root.backward == first.to_params + second.to_inputs + third.to_params + third.to_inputs
    assert [row.path for row in root.children] == ["0", "1", "2"]
    assert [row.y.shape for row in root.children] == [(16, 8), (16, 8), (16, 3)]


def test_no_gradient_of_the_input_before_the_first_parameters() -> None:
    x = batch(2, 6, 6, 1)
    root = outline(sequential(tanh, Residual(sequential(Conv(2, 3, padding="SAME")), Conv(2, 1)), tanh), x).root
    before, block, after = root.children
    assert before.backward == 0
    convs = [block.children[0].children[0], block.children[1]]
    for row in convs:
        found = operations(row.layer, row.x, row.y)
        assert found
        assert row.backward == found.to_params
    assert block.backward == sum(row.backward for row in convs)
    assert after.backward == 3 * 2 * 36 * 2
    assert block.forward == sum(row.forward for row in convs) + 2 * 36 * 2  # the sum of both ways


def test_equal_neighbours_are_one_row() -> None:
    model = sequential(Dense(4), *[Dense(4)] * 12, Dense(2))
    found = outline(model, batch(3, 5))
    assert paths(found) == [
        "Sequential",
        "0 Dense(features=4)",
        "1…12 Dense(features=4) × 12",
        "13 Dense(features=2)",
    ]
    _, row = found.rows()[2]
    assert (row.times, row.parameters) == (12, 12 * (4 * 4 + 4))
    assert row.forward == 12 * (2 * 3 * 4 * 4 + 3 * 4)


def test_layers_that_repeat_together_are_one_row() -> None:
    found = outline(sequential(Flatten(), *[Dense(4), relu] * 6, Dense(4)), batch(3, 4))
    assert paths(found) == [
        "Sequential",
        "0 Flatten()",
        "1…12 Dense(features=4), Activation(relu) × 6",
        "1…11 Dense(features=4)",
        "2…12 Activation(relu)",
        "13 Dense(features=4)",
    ]
    assert found.rows()[2][1].parameters == 6 * 20


def test_collapsed_blocks_hold_the_sums_of_their_layers() -> None:
    found = outline(
        sequential(*[Residual(sequential(Dense(4), relu))] * 5), batch(3, 4), optimizer=optimizers.adam(1.0)
    )
    by_path = {row.path: row for _, row in found.rows()}
    assert list(by_path) == ["", "0…4", "0.layer", "0.layer.0", "0.layer.1", "0.shortcut"]
    assert by_path["0…4"].times == 5
    assert by_path["0.layer.0"].parameters == by_path["0…4"].parameters == 5 * 20
    assert by_path["0.layer.0"].state == by_path["0…4"].state == 2 * 4 * 5 * 20
    assert by_path["0…4"].forward == by_path["0.layer"].forward + 5 * 3 * 4


def test_depth() -> None:
    model = sequential(Residual(sequential(Dense(3), relu)), Dense(3))
    x = batch(2, 3)
    levels = [max(level for level, _ in outline(model, x, depth=depth).rows()) for depth in (0, 1, 2, None)]
    assert levels == [0, 1, 2, 3]
    assert outline(model, x, depth=1).root == outline(model, x).root
    assert len(str(outline(model, x, depth=0)).splitlines()) == 5  # heads, a rule, a row, a rule, the totals


def test_nested_layers() -> None:
    block = Residual(LowPrecision(sequential(Dense(4), relu)), Dense(4))
    model = sequential(Embedding(7, 3), block, Bidirectional(GRUCell(2)), Recurrent(LSTMCell(5), False))
    found = outline(model, batch(2, 6, dtype=jnp.int32))
    assert [row.path for row in rows_of(found.root)] == [
        "",
        "0",
        "1",
        "1.layer",
        "1.layer",
        "1.layer.0",
        "1.layer.1",
        "1.shortcut",
        "2",
        "2.forward",
        "2.backward",
        "3",
    ]
    shapes = {row.path: row.y.shape for row in rows_of(found.root)}
    assert shapes["1"] == (2, 6, 4)
    assert shapes["2"] == (2, 6, 4)
    assert shapes["2.backward"] == (2, 6, 2)
    assert shapes["3"] == (2, 5)
    low = found.root.children[1].children[0]
    assert low.children[0].y.dtype == jnp.bfloat16
    assert (low.y.dtype, low.bytes, low.children[0].bytes) == (jnp.float32, 4 * 16, 2 * 16)


@dataclass(frozen=True)
class Scale:
    """A layer that is not of the library: a factor for each feature."""

    def init(self, key: Array, x: Shaped) -> Params:
        return {"s": jnp.ones(x.shape[-1], x.dtype)}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return x * params["s"]


@dataclass(frozen=True)
class Counted(Scale):
    def operations(self, x: Shaped, y: Shaped) -> Operations:
        return Operations(x.shape[0] * x.shape[1], growth="N D")


@dataclass(frozen=True)
class Twice:
    """A combinator that is not of the library."""

    layer: Any

    def children(self) -> Any:
        return (("", self.layer),)

    def init(self, key: Array, x: Shaped) -> Params:
        return self.layer.init(key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return self.layer.apply(params, self.layer.apply(params, x))


def test_layers_of_your_own() -> None:
    model, x = sequential(Dense(4), Scale(), Counted(), Twice(Scale())), batch(3, 5)
    found = outline(model, x)
    dense, scale, known, twice = found.root.children
    assert (scale.parameters, scale.y.shape) == (4, (3, 4))
    assert (scale.forward, scale.backward, scale.residuals, scale.complete) == (None, None, None, False)
    assert (known.forward, known.residuals) == (12, None)
    assert (twice.parameters, twice.children[0].parameters, twice.forward) == (4, 4, None)
    assert found.root.parameters == 24 + 3 * 4
    assert found.root.forward == dense.forward + 12
    lines = str(found).splitlines()
    assert "–" in lines[4]
    assert f"≥ {found.root.forward}" in lines[-1]
    assert "≥" not in str(outline(sequential(Dense(4)), x))


def test_state_of_the_optimizer() -> None:
    model, x = sequential(*[Dense(2)] * 12), batch(3, 2)
    optimizer = optimizers.adam(1e-3)
    found = outline(model, x, optimizer=optimizer)
    params = model.init(jax.random.key(0), jnp.ones((3, 2)))
    state = optimizer.init(params)
    assert found.root.state + found.other_state == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert [row.state for row in found.root.children] == [2 * 4 * 6] * 12
    assert "state" in str(found)
    assert "state" not in str(outline(model, x))
    assert named_leaves(state)


def test_two_hundred_layers_are_traced_once_and_nothing_is_compiled() -> None:
    compiled: list[str] = []
    traces: list[Any] = []

    @dataclass(frozen=True)
    class Watched(Scale):
        def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
            traces.append(x)
            return super().apply(params, x)

    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    model = sequential(*[layer for i in range(66) for layer in (Dense(31), tanh, Watched())], Dense(2))
    found = outline(model, batch(5, 31), optimizer=optimizers.adam(1e-3))
    assert len(model.layers) == 199
    assert len(found.root.children) == 199
    assert len(found.rows()) == 6
    assert len(traces) == 1
    assert not [event for event in compiled if "backend_compile" in event]
    jax.jit(lambda x: x + 3.25)(jnp.ones(3))
    assert [event for event in compiled if "backend_compile" in event]  # what compiles would be seen


def test_table() -> None:
    found = outline(sequential(Dense(1000), relu, Dense(10)), batch(16, 784))
    lines = str(found).splitlines()
    heads, row, total = (" ".join(lines[i].split()) for i in (0, 3, -1))
    assert heads == "layer input → output parameters forward backward kept grows as"
    assert row == "0 Dense(features=1000) 16×784 → 16×1000 785,000 25.1 M 25.1 M 49 KiB N D H"
    assert total == "total 3.03 MiB of parameters 795,010 25.5 M 25.8 M 127 KiB"
    assert max(map(len, lines)) <= 120
    html = found._repr_html_()
    assert html.count("<tr>") == 2 + len(found.rows())
    assert "&lt;" not in html
    assert "<b>" not in outline(sequential(Activation(bold)), batch(1, 1))._repr_html_()


def bold(z: Array) -> Array:
    return z


bold.__name__ = "<b>"


def test_arrays_of_numpy() -> None:
    x = np.ones((5, 4))  # float64, which jax takes as float32
    assert outline(sequential(Dense(3)), x).root.residuals == 4 * 5 * 4


def test_an_activation_and_a_cell_without_a_rule() -> None:
    first, second = outline(sequential(bold, Recurrent(RNNCell(3, bold))), batch(2, 4, 3)).root.children
    assert (first.forward, first.residuals, first.y.shape) == (None, None, (2, 4, 3))
    assert (second.forward, second.complete, second.y.shape) == (None, False, (2, 4, 3))


def test_shapes_that_do_not_fit_name_the_layer() -> None:
    model = sequential(Dense(3), Dense(3))
    params = model.init(jax.random.key(0), jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"Dense\(features=3\): x has shape \(2, 5\)"):
        outline(model, batch(2, 5), params)


def test_dropout_is_drawn_without_a_key() -> None:
    row = outline(sequential(Dropout(0.5)), batch(4, 6)).root
    assert row.residuals == 4 * 6  # the mask, one byte each
    assert replace(row, path="") == row
