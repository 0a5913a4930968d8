"""Operations in closed form equal XLA's count of the lowered program, with every loop unrolled."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fnnet import (
    Activation,
    Bidirectional,
    Conv,
    ConvTranspose,
    Dense,
    Dropout,
    GaussianNoise,
    GRUCell,
    LSTMCell,
    MultiHeadAttention,
    Recurrent,
    Rematerialized,
    RNNCell,
    Truncated,
    activations,
    bind,
)
from fnnet.backprop import RULES
from fnnet.inspect import OPERATIONS, Operations, operations
from fnnet.layers import children
from fnnet.layers.cells import Cell
from fnnet.types import Layer
from tests import public
from tests.cases import CELLS, LAYERS, OF_TOKENS, LayerCase

SCALARS = 10  # operations on constants and indices, which XLA counts and the closed forms do not
scan = jax.lax.scan


def xla(function: Callable[..., Any], *arguments: Any) -> tuple[int, int]:
    """Return XLA's count of operations and of transcendental values, before it optimizes; nothing is compiled."""
    cost = jax.jit(function).lower(*arguments).cost_analysis() or {}
    return int(cost.get("flops", 0)), int(cost.get("transcendentals", 0))


@cache
def shapes(layer: Layer, x: Any) -> tuple[Any, Any, Any]:
    """Return what the rule of a layer has as parameters, output and residuals."""
    params = jax.eval_shape(lambda key: layer.init(key, x), jax.eval_shape(lambda: jax.random.key(0)))
    rule = RULES[type(layer)]
    y, residuals = jax.eval_shape(lambda p, x: rule.forward(layer, p, x, key=None, train=False), params, x)
    return params, y, residuals


def forward(layer: Layer, x: Any) -> tuple[int, int]:
    return xla(lambda p, x: layer.apply(p, x), shapes(layer, x)[0], x)


def backward(layer: Layer, x: Any) -> int:
    params, y, residuals = shapes(layer, x)

    def gradients(params: Any, residuals: Any, dy: Any) -> Any:
        dparams, dx = RULES[type(layer)].backward(layer, params, residuals, dy)
        return dparams, dx if jnp.issubdtype(x.dtype, jnp.floating) else None

    return xla(gradients, params, residuals, y)[0]


def counted(layer: Layer, x: Any) -> Operations:
    found = operations(layer, x, shapes(layer, x)[1])
    assert found is not None
    return found


def batch(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.fixture
def unrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unroll every loop while tracing."""
    monkeypatch.setattr(jax.lax, "scan", lambda *args, **options: scan(*args, **options | {"unroll": True}))
    monkeypatch.setattr(jax.lax, "map", lambda f, xs: scan(lambda _, x: ((), f(x)), (), xs, unroll=True)[1])


def test_every_public_layer_and_activation_has_an_entry() -> None:
    assert public.public_layers() <= set(OPERATIONS)
    for function in public.public_activations():
        assert operations(Activation(function), batch(4, 6), batch(4, 6)) is not None, function
    for cell in CELLS.values():
        assert operations(Recurrent(cell), batch(2, 3, 4), batch(2, 3, 3)) is not None, cell


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [(Dense(4), (16, 9), 1216), (Conv(16, 5, use_bias=False), (1, 12, 12, 3), 153_600)],
)
def test_examples_of_the_docstring(layer: Layer, shape: tuple[int, ...], expected: int) -> None:
    x = batch(*shape)
    assert counted(layer, x).forward == expected == forward(layer, x)[0]


# Loops have tests of their own. Operations are those of training, where masks are drawn, which are not counted.
OTHERS = (Recurrent, Bidirectional, Truncated, Rematerialized, MultiHeadAttention, Dropout, GaussianNoise)


def alone(case: LayerCase) -> bool:
    return not (case.train or children(case.build()) or isinstance(case.build(), OTHERS))


@pytest.mark.parametrize("case", [case for case in [*LAYERS, *OF_TOKENS] if alone(case)], ids=str)
def test_layers_without_loops(case: LayerCase) -> None:
    """All loops of the library apart, every layer equals XLA's count; a convolution does where XLA computes it."""
    layer, like = case.build(), jax.eval_shape(lambda: case.x(jnp.float32))
    x = jax.ShapeDtypeStruct(like.shape, like.dtype)
    if isinstance(layer, Conv | ConvTranspose):
        layer = replace(layer, method="xla")
    if case.name == "Activation(gelu)" and jax.__version_info__ >= (0, 11):
        return  # how erfc is lowered is the affair of jax; the table has that of 0.10
    found, (expected, transcendental) = counted(layer, x), forward(layer, x)
    assert 0 <= expected - found.forward < SCALARS
    assert found.transcendental == transcendental
    if len(x.shape) > 1:  # of one axis nothing is summed
        assert 0 <= backward(layer, x) - found.to_params - found.to_inputs < SCALARS


@pytest.mark.parametrize("cell", [*CELLS.values(), RNNCell(3, activations.relu)], ids=repr)
@pytest.mark.usefixtures("unrolled")
def test_cells(cell: Cell) -> None:
    """The forward pass equals XLA's count exactly; backward there are a few operations of the loop itself."""
    small, large = batch(2, 4, 5), batch(4, 4, 5)
    layer = Recurrent(cell)
    constants = 8 if getattr(cell, "activation", None) is activations.relu else 0  # two in each step
    assert forward(layer, small) == (counted(layer, small).forward + constants, counted(layer, small).transcendental)
    found, more = counted(layer, small), counted(layer, large)
    assert backward(layer, large) - backward(layer, small) == sum(more[1:3]) - sum(found[1:3])


ATTENTION = {
    "one block": (MultiHeadAttention(2), 3),
    "causal, rotary": (MultiHeadAttention(2, causal=True, rotary=True), 3),
    "without bias": (MultiHeadAttention(2, 3, use_bias=False), 5),
    "two blocks": (MultiHeadAttention(2, block=2), 4),
    "a block that is not full": (MultiHeadAttention(2, block=2), 3),
}


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.usefixtures("unrolled")
def test_attention(name: str) -> None:
    """Twice as many examples add exactly what XLA counts; what they do not change are indices of blocks."""
    layer, steps = ATTENTION[name]
    small, large = (batch(examples, steps, 4) for examples in (2, 4))
    found, more = counted(layer, small), counted(layer, large)
    (few, exps), (many, more_exps) = forward(layer, small), forward(layer, large)
    assert many - few == more.forward - found.forward
    assert (exps, more_exps) == (found.transcendental, more.transcendental)
    assert 0 <= few - found.forward < 30
    assert backward(layer, large) - backward(layer, small) == sum(more[1:3]) - sum(found[1:3])


@pytest.mark.usefixtures("unrolled")
def test_several_causal_blocks() -> None:
    """Of a condition XLA counts the costlier branch, as if a query saw every block, with one choice for each score."""
    causal, whole = (MultiHeadAttention(2, causal=causal, block=2) for causal in (True, False))
    small, large = (batch(examples, 6, 4) for examples in (2, 4))
    found, more = counted(whole, small), counted(whole, large)
    choices = 2 * 2 * 6 * 6  # two more examples of two heads
    assert forward(causal, large)[0] - forward(causal, small)[0] == more.forward - found.forward + choices
    assert forward(causal, small)[1] == found.transcendental
    assert backward(causal, large) - backward(causal, small) == sum(more[1:3]) - sum(found[1:3]) + choices


def test_a_causal_block_that_no_query_sees_is_not_counted() -> None:
    x = batch(1, 8, 4)
    whole, half = (counted(MultiHeadAttention(2, causal=causal, block=4), x) for causal in (False, True))
    scores = 2 * 8 * 8  # of two heads
    products = 4 * 2  # q k and p v, of two features each, for a score
    chosen, rescaled = 2 * 3 * 16, 2 * 4 * (2 * 2 + 2)
    assert whole.forward - half.forward == scores // 4 * (products + 4) + rescaled - chosen


RECOMPUTED = {
    "segments": (Rematerialized(Recurrent(LSTMCell(4)), 2), 6),
    "windows side by side": (Truncated(Recurrent(GRUCell(4)), 3), 6),
    "windows that overlap": (Truncated(Recurrent(LSTMCell(4)), 2, 3), 5),
    "windows of many pieces": (Truncated(Recurrent(RNNCell(4)), 1, 3), 4),
    "a last window that is not full": (Truncated(Recurrent(GRUCell(4, reset_after=False)), 2), 5),
}


@pytest.mark.parametrize("name", RECOMPUTED)
@pytest.mark.usefixtures("unrolled")
def test_recomputed_recurrences(name: str) -> None:
    """Twice as many examples add exactly what XLA counts, forward and backward."""
    layer, steps = RECOMPUTED[name]
    small, large = (batch(examples, steps, 3) for examples in (2, 4))
    found, more = counted(layer, small), counted(layer, large)
    assert forward(layer, small) == (found.forward, found.transcendental)
    assert backward(layer, large) - backward(layer, small) == sum(more[1:3]) - sum(found[1:3])


def test_options_of_activations() -> None:
    x = batch(4, 6)
    for layer in (
        Activation(bind(activations.elu, alpha=0.7)),
        Activation(bind(activations.celu, alpha=2.0)),
        Activation(bind(activations.gelu, approximate=True)),
    ):
        found = counted(layer, x)
        assert 0 <= forward(layer, x)[0] - found.forward < SCALARS
        assert 0 <= backward(layer, x) - found.to_inputs < SCALARS


def test_what_only_training_computes() -> None:
    x = batch(4, 6)
    assert operations(Dropout(0.5), x, x) == Operations(48, 0, 48, growth="N D")
    assert operations(GaussianNoise(0.5), x, x) == Operations(48, growth="N D")


class Own(Dense):
    """A subclass, which may compute something else."""


class Told(Own):
    def operations(self, x: Any, y: Any) -> Operations:
        return Operations(7 * len(y.shape))


def test_layers_of_your_own() -> None:
    x, y = batch(4, 6), batch(4, 3)
    assert operations(Own(3), x, y) is None
    assert operations(Told(3), x, y) == Operations(14)
    assert operations(Activation(jnp.sin), x, x) is None
    assert operations(Recurrent(RNNCell(3, jnp.sin)), batch(2, 3, 4), batch(2, 3, 3)) is None
    assert operations(Recurrent(type("OwnCell", (GRUCell,), {})(3)), batch(2, 3, 4), batch(2, 3, 3)) is None
