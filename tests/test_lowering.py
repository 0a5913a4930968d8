"""Everything is lowered for a CPU, a GPU and a TPU.

``jax.export`` traces a function and translates it for each platform, without the device and without compiling. It
fails where an operation has no translation for one of them, and where a program calls code that only one platform has.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import export

import fnnet
from fnnet import (
    BatchNorm,
    Bidirectional,
    Conv,
    ConvTranspose,
    Cost,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GRUCell,
    LearnedPositions,
    LSTMCell,
    MaxPool,
    MultiHeadAttention,
    Recurrent,
    RNNCell,
    SinusoidalPositions,
    TrainState,
    backprop,
    optimizers,
    relu,
    sequential,
    train_epoch,
    train_step,
    transformer_block,
)
from fnnet.backprop.losses import loss_gradient
from fnnet.types import Layer
from tests.cases import LAYERS, LOSSES, OF_TOKENS, ONE_OF_EACH, LayerCase, LossCase

PLATFORMS = ("cpu", "cuda", "tpu")
ENGINES = {"autodiff": jax.value_and_grad, "by hand": backprop.value_and_grad}


@pytest.fixture(autouse=True)
def no_question_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program must not depend on the machine that traces it. What differs by platform is chosen while lowering."""

    def refused(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the library asked for the devices of the machine that traces the program")

    for name in ("default_backend", "devices", "local_devices"):
        monkeypatch.setattr(jax, name, refused)


def lower(function: Callable[..., Any], *arguments: Any) -> None:
    """Lower a function for every platform at once; the arguments may be ``jax.ShapeDtypeStruct``."""
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    assert exported.platforms == PLATFORMS


def shapes_of(tree: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)


def apply_and_both_derivatives(layer: Layer, options: Callable[[], Any], params: Any, x: Any) -> Any:
    """Return the output of ``apply`` with its derivatives by autodiff, and those of the rule."""
    integers = jnp.issubdtype(x.dtype, jnp.integer)  # tokens have no derivative
    y, pullback = jax.vjp(lambda p: layer.apply(p, x, **options()), params)
    _, by_rule = backprop.vjp(layer, params, x, **options())
    dx = None if integers else jax.grad(lambda x: layer.apply(params, x, **options()).sum())(x)
    return y, pullback(y), dx, by_rule(y)


@pytest.mark.parametrize("case", [*LAYERS, *OF_TOKENS], ids=str)
def test_every_layer_and_its_rule(case: LayerCase) -> None:
    run = partial(apply_and_both_derivatives, case.build(), case.options)
    lower(run, shapes_of(case.params("float32")), shapes_of(case.x("float32")))


ANY = export.symbolic_shape("n")
LONG = LayerCase("MultiHeadAttention in blocks", lambda: MultiHeadAttention(4), (2, 700, 8))


PATCHES = LayerCase("Conv by patches", lambda: Conv(2, 2, method="patches"), (2, 3, 3, 2))


@pytest.mark.parametrize("case", [*ONE_OF_EACH, LONG, PATCHES], ids=str)
def test_a_batch_of_any_size(case: LayerCase) -> None:
    """Forward and, except for tokens (whose gradient has a shape in NumPy), backward by both engines."""
    x, params = case.x("float32"), shapes_of(case.params("float32"))
    run = partial(apply_and_both_derivatives, case.build(), case.options)
    if case in OF_TOKENS:
        run = case.build().apply
    lower(run, params, jax.ShapeDtypeStruct((*ANY, *x.shape[1:]), x.dtype))


def test_a_transformer_on_a_batch_of_any_size() -> None:
    block, x = transformer_block(2, 4, causal=True, rotary=True), jax.ShapeDtypeStruct((*ANY, 5, 4), "float32")
    lower(block.apply, jax.eval_shape(block.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 5, 4), "float32")), x)


# Layers for sequences or images of any size that a constraint allows, and what those say that need to know it.
SIDES = export.symbolic_shape("h, w", constraints=["h >= 3", "w >= 3"])
(STEPS,) = export.symbolic_shape("t", constraints=["t <= 8"])
FREE = export.symbolic_shape("u, v")
ANY_SIZE: list[tuple[Layer, Any, str]] = [
    (MultiHeadAttention(2), (2, STEPS, 4), ""),
    (MultiHeadAttention(2, causal=True), (2, STEPS, 4), ""),
    (MultiHeadAttention(2, causal=True, rotary=True), (2, STEPS, 4), "rotate: x has shape"),
    (Recurrent(GRUCell(2)), (2, STEPS, 4), ""),
    (LearnedPositions(8), (2, STEPS, 4), ""),
    (LearnedPositions(8), (2, FREE[0], 4), r"LearnedPositions\(length=8\): x has shape"),
    (SinusoidalPositions(), (2, STEPS, 4), r"SinusoidalPositions\(\): x has shape"),
    (Conv(2, 3), (2, *SIDES, 3), ""),
    (Conv(2, 3), (2, *FREE, 3), r"Conv\(features=2, kernel_size=3\): x has shape"),
    (Conv(2, 3, padding="SAME"), (2, *FREE, 3), ""),
    (Conv(2, 3, padding=1, stride=2), (2, *SIDES, 3), ""),
    (Conv(2, 2, method="patches"), (2, *SIDES, 3), ""),
    (ConvTranspose(2, 3, stride=2), (2, *FREE, 3), ""),
    (MaxPool(2), (2, *FREE, 3), r"MaxPool\(window=2\): x has shape"),
]


@pytest.mark.parametrize(("layer", "shape", "message"), ANY_SIZE, ids=str)
def test_axes_of_any_size(layer: Layer, shape: Any, message: str) -> None:
    known = jax.ShapeDtypeStruct(tuple(n if isinstance(n, int) else 5 for n in shape), "float32")
    params = jax.eval_shape(layer.init, jax.random.key(0), known)
    arguments = params, jax.ShapeDtypeStruct(shape, "float32")
    if not message:
        lower(layer.apply, *arguments)
        return
    with pytest.raises(ValueError, match=f"{message}.*of which too little is known.* or a constraint for them"):
        lower(layer.apply, *arguments)


# The cases are tiny. An implementation that is chosen by the size of the arrays may be another one at these.
LARGE: list[tuple[Layer, tuple[int, ...]]] = [
    (Dense(128), (128, 784)),
    (Conv(64, 3, padding="SAME"), (32, 28, 28, 32)),
    (Conv(256, 5, stride=2), (16, 32, 32, 64)),
    (Conv(32, 3, groups=32), (32, 28, 28, 32)),
    (Conv(64, 5), (32, 512, 32)),
    (MaxPool(2), (128, 24, 24, 20)),
    (MaxPool(3, stride=2, padding="SAME"), (128, 24, 24, 20)),
    (Recurrent(RNNCell(256)), (64, 100, 128)),
    (Recurrent(GRUCell(256)), (64, 100, 128)),
    (Recurrent(LSTMCell(256)), (64, 100, 128)),
    (Bidirectional(LSTMCell(256)), (64, 100, 128)),
    (MultiHeadAttention(8, causal=True, rotary=True), (16, 512, 256)),
]


@pytest.mark.parametrize(("layer", "shape"), LARGE, ids=lambda value: repr(value) if isinstance(value, Layer) else "")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layers_of_usual_sizes(layer: Layer, shape: tuple[int, ...], dtype: str) -> None:
    x = jax.ShapeDtypeStruct(shape, dtype)
    params = jax.eval_shape(layer.init, jax.random.key(0), x)
    lower(partial(apply_and_both_derivatives, layer, dict), params, x)


@pytest.mark.parametrize("case", LOSSES, ids=str)
def test_every_loss_and_its_gradients(case: LossCase) -> None:
    """The gradients by hand and by autodiff, alone and behind the last activation that belongs to the loss."""
    prediction, target = shapes_of(case.arrays("float32"))
    layer = Dense(prediction.shape[-1])
    cost = Cost(sequential(layer, case.head), case.loss)

    def run(params: Any, prediction: jax.Array, target: jax.Array) -> Any:
        value, pullback = jax.vjp(lambda p: case.loss(p, target), prediction)
        of_cost = [engine(cost)((params, {}), (prediction, target)) for engine in ENGINES.values()]
        return value, pullback(value), loss_gradient(case.loss, prediction, target), of_cost

    lower(run, jax.eval_shape(layer.init, jax.random.key(0), prediction), prediction, target)


PICTURES = sequential(Conv(4, 3), BatchNorm(), relu, MaxPool(2), Flatten(), Dropout(0.2), Dense(10))
TOKENS = sequential(
    Embedding(5, 8), transformer_block(2, 8, causal=True, dropout=0.1), Recurrent(LSTMCell(6)), Dense(5)
)
NETWORKS = {
    "pictures": (PICTURES, ((32, 8, 8, 1), "float32"), (32,)),
    "tokens": (TOKENS, ((32, 7), "int32"), (32, 7)),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", NETWORKS)
def test_training(network: str, engine: str) -> None:
    """One step, and a whole epoch with its shuffling and a short last batch."""
    model, (shape, dtype), of_labels = NETWORKS[network]
    cost, optimizer = Cost(model, fnnet.losses.softmax_cross_entropy, fnnet.penalties.l2(1e-3)), optimizers.adamw(1e-3)
    x, y = jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct(of_labels, "int32")

    def create(key: jax.Array, x: Any) -> TrainState:
        return TrainState.create(model.init(key, x), optimizer, key)

    state = jax.eval_shape(create, jax.random.key(0), x)
    lower(train_step(cost, optimizer, ENGINES[engine]), state, (x, y))
    lower(train_epoch(cost, optimizer, batch_size=10, value_and_grad=ENGINES[engine]), state, (x, y))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.linalg.eig(x),
        lambda x: jax.lax.platform_dependent(x, cpu=lambda x: x[0], default=lambda x: jnp.linalg.eigvals(x).real),
        lambda x: jax.ffi.ffi_call("a_call_of_no_platform", jax.ShapeDtypeStruct(x.shape, x.dtype))(x),
        lambda x: x + len(jax.devices()),
        lambda x: x if jax.default_backend() == "cpu" else 2 * x,
    ],
    ids=["an operation", "an operation of a branch", "a call", "the devices", "the backend"],
)
def test_what_works_on_one_platform_only_is_found(function: Callable[..., Any]) -> None:
    refusals = (NotImplementedError, ValueError, AssertionError)
    with pytest.raises(refusals, match=r"MLIR translation|custom call|asked for the devices"):
        lower(function, jnp.ones((2, 2)))


@pytest.mark.parametrize("engine", [jax.grad, backprop.grad], ids=["autodiff", "by hand"])
def test_gradients_of_a_cost_for_any_number_of_examples(engine: Any) -> None:
    """With weights and without them; the program takes batches of all lengths."""
    (batch,) = export.symbolic_shape("batch")
    cost = Cost(Dense(4), fnnet.losses.softmax_cross_entropy)
    params = jax.eval_shape(
        cost.model.init, jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((1, 3), "float32")
    )
    x, y = jax.ShapeDtypeStruct((batch, 3), jnp.float32), jax.ShapeDtypeStruct((batch,), jnp.int32)
    lower(engine(cost), params, (x, y))
    lower(engine(cost), params, (x, y, jax.ShapeDtypeStruct((batch,), jnp.float32)))
