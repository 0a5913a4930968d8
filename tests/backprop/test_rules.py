"""Every hand-written rule against ``jax.vjp``, against the slow reference, and as a custom derivative."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Activation, Conv, ConvTranspose, Dense, Flatten, activations, sequential, tanh
from fnnet.backprop import RULES, as_custom_vjp, vjp
from fnnet.backprop.activations import ACTIVATION_RULES
from fnnet.backprop.losses import LOSS_GRADIENTS, loss_gradient
from fnnet.backprop.penalties import penalty_gradient
from fnnet.binding import unbind
from fnnet.types import Layer
from tests import reference
from tests.cases import (
    ACTIVATIONS,
    ELEMENTWISE,
    LAYERS,
    LOSSES,
    NOT_ELEMENTWISE,
    PENALTIES,
    SEED,
    LayerCase,
    LossCase,
    PenaltyCase,
    network_params,
)
from tests.compare import assert_close, assert_identical

pytestmark = pytest.mark.usefixtures("x64")
every_layer = pytest.mark.parametrize("case", LAYERS, ids=str)


def cotangent(y: jax.Array) -> jax.Array:
    """A random cotangent; ones would miss errors that sum to zero, such as those of a softmax."""
    return jnp.asarray(np.random.default_rng(SEED + 2).standard_normal(y.shape)).astype(y.dtype)


def derivatives(case: LayerCase, layer: Layer, params: Any, x: jax.Array) -> Any:
    """Return ``(y, (dparams, dx))`` by autodiff, which runs the rule of a ``CustomVJP``."""
    y, pullback = jax.vjp(lambda p, x: layer.apply(p, x, **case.options()), params, x)
    return y, pullback(cotangent(y))


def derivatives_by_rule(case: LayerCase, layer: Layer, params: Any, x: jax.Array) -> Any:
    y, pullback = vjp(layer, params, x, **case.options())
    return y, pullback(cotangent(y))


@every_layer
def test_rule_and_custom_vjp_equal_autodiff(case: LayerCase) -> None:
    layer = case.build()

    @jax.jit
    def run(params: Any, x: jax.Array) -> Any:
        by_custom = derivatives(case, as_custom_vjp(layer), params, x)
        return derivatives_by_rule(case, layer, params, x), by_custom, derivatives(case, layer, params, x)

    by_rule, by_custom, by_autodiff = run(case.params(jnp.float64), case.x(jnp.float64))
    assert_close(by_rule, by_autodiff)
    assert_close(by_custom, by_autodiff)


@pytest.mark.parametrize("case", NOT_ELEMENTWISE, ids=str)
def test_custom_vjp_of_many_networks_at_once(case: LayerCase) -> None:
    """It works under ``vmap`` over both parameters and inputs."""
    layer, x = case.build(), case.x(jnp.float64)
    params = jax.tree.map(lambda p: jnp.stack([p, -p]), case.params(jnp.float64))

    @jax.jit
    @jax.vmap
    def run(params: Any, x: jax.Array) -> Any:
        return derivatives(case, as_custom_vjp(layer), params, x), derivatives(case, layer, params, x)

    assert_close(*run(params, jnp.stack([x, 2 * x])))


@every_layer
def test_custom_vjp_is_the_layer(case: LayerCase) -> None:
    layer, x = case.build(), case.x(jnp.float64)
    custom, params = as_custom_vjp(layer), case.params(jnp.float64)
    assert jax.eval_shape(custom.init, jax.random.key(0), x) == jax.eval_shape(layer.init, jax.random.key(0), x)
    assert_identical(custom.apply(params, x, **case.options()), layer.apply(params, x, **case.options()))


@every_layer
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_gradients_have_the_dtype_of_what_they_belong_to(case: LayerCase, dtype: str) -> None:
    layer = case.build()
    run = partial(derivatives_by_rule, case, layer)
    leaves = jax.tree.leaves(jax.eval_shape(run, case.params(dtype), case.x(dtype)))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}


def test_custom_vjp_runs_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its derivative is the rule's, even a wrong one."""
    rule = RULES[Activation]
    monkeypatch.setitem(RULES, Activation, rule._replace(backward=lambda layer, params, r, dy: ({}, 7 * dy)))
    layer = as_custom_vjp(Activation(tanh))
    assert float(jax.grad(lambda x: layer.apply({}, x).sum())(jnp.ones(1))[0]) == 7


def test_custom_vjp_compares_by_value_and_does_not_wrap_twice() -> None:
    assert as_custom_vjp(Dense(3)) == as_custom_vjp(Dense(3))
    assert hash(as_custom_vjp(Dense(3))) == hash(as_custom_vjp(Dense(3)))
    assert as_custom_vjp(as_custom_vjp(Dense(3))) == as_custom_vjp(Dense(3))


@pytest.mark.parametrize("case", ACTIVATIONS, ids=str)
def test_activation_rule_equals_reference(case: LayerCase) -> None:
    layer, x = case.build(), case.x(jnp.float64)
    function, options = unbind(layer.function)
    y, pullback = vjp(layer, {}, x)
    expected = reference.ACTIVATIONS[function]
    assert_close(y, expected.value(np.asarray(x), **options))
    assert_close(pullback(cotangent(y))[1], expected.derivative(np.asarray(x), np.asarray(cotangent(y)), **options))


def sized(layer: Conv | ConvTranspose, expected: reference.Reference) -> reference.Reference:
    """The reference with the sizes of the layer."""
    sizes = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    if isinstance(layer, ConvTranspose):
        sizes["output_padding"] = layer.output_padding
    return reference.Reference(partial(expected.value, **sizes), partial(expected.derivative, **sizes))


# Given for every axis, as the reference needs them.
NONE, ONE = ((0, 0), (0, 0)), (1, 1)
CONVOLUTIONS = [
    (Conv(3, 2, ONE, NONE, ONE), (2, 4, 3, 2)),
    (Conv(1, 1, ONE, NONE, ONE), (1, 2, 2, 1)),
    (Conv(2, (4, 3), ONE, NONE, ONE), (2, 4, 3, 2)),
    (Conv(2, 3, (2, 3), NONE, ONE), (2, 5, 7, 1)),
    (Conv(2, 3, (2, 1), ((1, 1), (0, 2)), ONE), (2, 4, 3, 2)),
    (Conv(2, (2, 3), ONE, ((0, 1), (2, 2)), (3, 2)), (2, 4, 4, 1)),
    (Conv(4, 2, ONE, NONE, ONE, 2), (2, 3, 3, 4)),
    (Conv(6, 2, (1, 2), ((1, 0), (0, 0)), ONE, 3), (2, 3, 4, 3)),
    (Conv(3, (2,), (1,), ((0, 0),), (1,)), (3, 4, 2)),
    (Conv(2, (3,), (2,), ((2, 1),), (2,), use_bias=False), (2, 5, 2)),
    (Conv(2, 2, (1, 2, 1), ((0, 0), (1, 0), (0, 1)), (1, 1, 2)), (2, 2, 3, 3, 1)),
    (Conv(2, 3, (2, 2), ((1, 1), (1, 1)), ONE, method="xla"), (2, 5, 4, 2)),
]
TRANSPOSED = [
    (ConvTranspose(3, 2, ONE, NONE, ONE), (2, 2, 3, 2)),
    (ConvTranspose(2, (3, 2), (2, 3), ((1, 0), (0, 1)), ONE, 1, (1, 2)), (2, 2, 3, 1)),
    (ConvTranspose(4, 2, (1, 2), NONE, (2, 1), 2, (0, 1)), (2, 2, 2, 6)),
    (ConvTranspose(2, (3,), (2,), ((1, 1),), (1,), use_bias=False), (2, 3, 2)),
]


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (Dense(4), (5, 3), reference.DENSE),
        (Dense(2), (2, 3, 3), reference.DENSE),
        (Flatten(), (3, 2, 2), reference.FLATTEN),
        *((layer, shape, sized(layer, reference.CONV)) for layer, shape in CONVOLUTIONS),
        *((layer, shape, sized(layer, reference.CONV_TRANSPOSE)) for layer, shape in TRANSPOSED),
    ],
    ids=lambda value: repr(value) if isinstance(value, Layer) else "",
)
def test_layer_rule_equals_reference(layer: Layer, shape: tuple[int, ...], expected: reference.Reference) -> None:
    case = LayerCase("", lambda: layer, shape)
    params, x = case.params(jnp.float64), case.x(jnp.float64)
    y, pullback = vjp(layer, params, x)
    numbers = jax.tree.map(np.asarray, params)
    assert_close(y, expected.value(numbers, np.asarray(x)))
    assert_close(pullback(cotangent(y)), expected.derivative(numbers, np.asarray(x), np.asarray(cotangent(y))))


@pytest.mark.parametrize("case", LOSSES, ids=str)
def test_loss_gradient_equals_autodiff_and_reference(case: LossCase) -> None:
    """Value and gradient agree, compiled, with a random cotangent for each example."""
    prediction, target = case.arrays(jnp.float64)

    @jax.jit
    def run(prediction: jax.Array, target: jax.Array) -> Any:
        value, pullback = jax.vjp(lambda p: case.loss(p, target), prediction)
        by_hand = loss_gradient(case.loss, prediction, target)
        return value, by_hand, by_hand * cotangent(value)[..., None], pullback(cotangent(value))[0]

    value, by_hand, pulled_by_hand, pulled = run(prediction, target)
    assert_close(pulled_by_hand, pulled)
    expected = [reference.over_examples(f, prediction, target) for f in reference.loss_reference(case.loss)]
    assert_close([value, by_hand], expected)


@pytest.mark.parametrize("case", PENALTIES, ids=str)
def test_penalty_gradient_equals_autodiff_and_reference(case: PenaltyCase) -> None:
    params = network_params(jnp.float64)
    by_hand = penalty_gradient(case.penalty, params)
    names = ({"w": "0.w", "b": "0.b"}, {"w": "1.w", "b": "1.b"})
    expected = reference.PENALTIES[type(case.penalty)]

    def gradient(name: str, leaf: jax.Array) -> np.ndarray:
        w = np.asarray(leaf)
        where = case.penalty.where
        return expected.derivative(case.penalty, w) if (where(name) if where else w.ndim >= 2) else np.zeros(w.shape)

    assert_close(by_hand, jax.tree.map(gradient, names, params))
    assert_close(by_hand, jax.grad(case.penalty)(params))  # also at the weight that is 0, where |w| has a kink


@pytest.mark.parametrize("case", ELEMENTWISE, ids=str)
def test_rule_equals_autodiff_at_extremes(case: LayerCase) -> None:
    z = jnp.array([0.0, -0.0, 1e4, -1e4, 800.0, -800.0, 1e-300, jnp.inf, -jnp.inf])
    da = jnp.full_like(z, 3)
    by_hand = vjp(case.build(), {}, z)[1](da)[1]
    by_autodiff = jax.vjp(case.build().function, z)[1](da)[0]
    assert np.isfinite(by_hand).all()
    np.testing.assert_allclose(by_hand, by_autodiff, rtol=1e-12, atol=1e-15)


class Wider(Dense):
    """A layer that does not compute what ``Dense`` does."""

    def apply(self, params: Any, x: Any, **options: Any) -> jax.Array:
        return 2 * super().apply(params, x, **options)


def unknown(z: jax.Array) -> jax.Array:
    return 2 * z


def test_a_subclass_inherits_no_rule() -> None:
    layer, x = Wider(2), jnp.ones((1, 3))
    params = layer.init(jax.random.key(0), x)
    with pytest.raises(
        TypeError, match=r"Wider\(.*\) has no hand-written rule; add one with fnnet.backprop.RULES\[Wider\]"
    ):
        vjp(layer, params, x)
    with pytest.raises(TypeError, match="no hand-written rule"):
        as_custom_vjp(layer)
    with pytest.raises(TypeError, match="no hand-written rule"):
        vjp(sequential(layer), (params,), x)


def test_what_has_no_rule_is_named() -> None:
    with pytest.raises(TypeError, match="the activation unknown has no hand-written rule"):
        vjp(Activation(unknown), {}, jnp.ones(2))
    with pytest.raises(TypeError, match="the loss unknown has no hand-written rule"):
        loss_gradient(unknown, jnp.ones((2, 1)), jnp.ones((2, 1)))
    with pytest.raises(TypeError, match="the penalty unknown has no hand-written rule; a function has no type of its"):
        penalty_gradient(unknown, network_params(jnp.float64))


def test_a_rule_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIVATION_RULES, unknown, ACTIVATION_RULES[activations.identity])
    monkeypatch.setitem(LOSS_GRADIENTS, unknown, lambda prediction, target: prediction)
    assert float(vjp(Activation(unknown), {}, jnp.ones(1))[1](jnp.array([5.0]))[1][0]) == 5
    assert float(loss_gradient(unknown, jnp.ones((1, 1)), jnp.ones((1, 1)))[0, 0]) == 1


def test_pullback_refuses_another_shape_or_dtype() -> None:
    layer, x = Dense(2), jnp.ones((5, 3))
    y, pullback = vjp(layer, layer.init(jax.random.key(0), x), x)
    with pytest.raises(ValueError, match=r"dy has shape \(2,\) but .* y of shape \(5, 2\)"):
        pullback(jnp.ones(2))
    with pytest.raises(TypeError, match="dy has dtype float32 but y has float64"):
        pullback(y.astype(jnp.float32))


def test_params_given_as_a_list_are_refused() -> None:
    """The rule and ``apply`` both raise, because gradients would have another structure than the list."""
    model, x = sequential(Dense(2), tanh), jnp.ones((5, 3))
    params = list(model.init(jax.random.key(0), x))
    for call in (vjp, lambda *arguments: arguments[0].apply(*arguments[1:])):
        with pytest.raises(TypeError, match="Sequential: params is a list; expected a tuple with one entry per layer"):
            call(model, params, x)
