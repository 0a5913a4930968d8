"""Residual connections: sums, keys and errors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import BatchNorm, Cost, Dense, Dropout, MaxPool, Residual, backprop, losses, relu, sequential, tanh
from fnnet.backprop import as_custom_vjp, vjp
from fnnet.paths import named_leaves
from tests import reference
from tests.cases import SEED, random_params
from tests.compare import assert_close, assert_identical

X = np.random.default_rng(SEED).standard_normal((4, 3))


@pytest.mark.usefixtures("x64")
def test_residual_equals_reference() -> None:
    """Values and derivatives are the sums of those of two affine maps, computed with loops."""
    layer, x = Residual(Dense(2), Dense(2)), jnp.asarray(X)
    params = random_params(layer, x)
    y, pullback = vjp(layer, params, x)
    dy = np.random.default_rng(SEED + 1).standard_normal(y.shape)
    numbers = jax.tree.map(np.asarray, params)
    values = {name: reference.DENSE.value(p, X) for name, p in numbers.items()}
    derivatives = {name: reference.DENSE.derivative(p, X, dy) for name, p in numbers.items()}
    assert_close(y, values["layer"] + values["shortcut"])
    dparams, dx = pullback(jnp.asarray(dy))
    assert_close(dparams, {name: derivative[0] for name, derivative in derivatives.items()})
    assert_close(dx, derivatives["layer"][1] + derivatives["shortcut"][1])


@pytest.mark.usefixtures("x64")
def test_without_a_shortcut_the_input_is_added() -> None:
    layer, x = Residual(Dense(3)), jnp.asarray(X)
    params = random_params(layer, x)
    assert params["shortcut"] == {}
    assert_close(layer.apply(params, x), x + Dense(3).apply(params["layer"], x))
    zero = jax.tree.map(jnp.zeros_like, params)
    dy = jnp.asarray(X[::-1].copy())
    np.testing.assert_array_equal(vjp(layer, zero, x)[1](dy)[1], dy)


def test_branches_have_keys_and_names_of_their_own() -> None:
    layer, x = Residual(Dense(3), Dense(3)), jnp.asarray(X, jnp.float32)
    params = layer.init(jax.random.key(4), x)
    for i, name in enumerate(("layer", "shortcut")):
        assert_identical(params[name], Dense(3).init(jax.random.fold_in(jax.random.key(4), i), x))
    names = [name for name, _ in named_leaves((params,))]
    assert names == ["0.layer.b", "0.layer.w", "0.shortcut.b", "0.shortcut.w"]
    noisy, none = Residual(Dropout(0.5), Dropout(0.5)), {"layer": {}, "shortcut": {}}
    y = noisy.apply(none, jnp.ones((50, 40)), key=jax.random.key(1), train=True)
    assert set(np.unique(y)) == {0, 2, 4}  # the branches have masks of their own


@pytest.mark.usefixtures("x64")
def test_gradient_of_a_network_with_residual_blocks() -> None:
    """Normalized blocks as in ResNet, with a projection where the width changes; also a product with the Hessian."""
    # No biases before normalization, which subtracts them: their gradient would be rounding errors of 0.
    block = sequential(Dense(3, False), BatchNorm(), tanh, Dense(3, False), BatchNorm())
    wider = sequential(Dense(5, False), BatchNorm(), tanh)
    model = sequential(Residual(block), relu, Residual(wider, Dense(5)), Dense(2))
    cost = Cost(model, losses.softmax_cross_entropy)
    rng = np.random.default_rng(SEED)
    batch = jnp.asarray(rng.standard_normal((16, 3))), jnp.asarray(rng.integers(0, 2, 16))
    params = random_params(model, batch[0])
    direction = jax.tree.map(jnp.cos, params)

    @jax.jit
    def run(params: Any) -> Any:
        return [
            jax.jvp(lambda p: gradient(p, batch), (params,), (direction,))  # noqa: B023
            for gradient in (backprop.grad(cost), jax.grad(cost), jax.grad(Cost(as_custom_vjp(model), cost.loss)))
        ]

    by_hand, by_autodiff, by_custom = run(params)
    assert_close(by_hand, by_autodiff, 1e-11)
    assert_close(by_custom, by_autodiff, 1e-11)


def test_equal_when_built_again() -> None:
    assert Residual(Dense(3)) == Residual(Dense(3), None)
    assert hash(Residual(Dense(3))) == hash(Residual(Dense(3)))
    assert repr(Residual(Dense(3), Dense(3))) == "Residual(layer=Dense(features=3), shortcut=Dense(features=3))"


KEY = jax.random.key(0)
REFUSED = [
    (lambda: Residual(relu), TypeError, "Residual: layer is .*, which has no init and apply; wrap a function"),
    (lambda: Residual(Dense(2), Dense), TypeError, r"Residual: shortcut is .*; write Dense\(...\)"),
    (
        lambda: sequential(Residual(Dense(2))).init(KEY, jnp.ones((4, 3))),
        ValueError,
        r"Residual: layer gives shape \(4, 2\) but shortcut \(4, 3\); they are added, nothing is broadcast",
    ),
    (
        lambda: Residual(MaxPool(4)).apply({"layer": {}, "shortcut": {}}, jnp.ones((2, 4, 4, 1))),
        ValueError,
        r"\(2, 1, 1, 1\) but shortcut \(2, 4, 4, 1\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_an_error_names_the_branch() -> None:
    layer = Residual(Dense(3), Dropout(0.5))
    with pytest.raises(ValueError, match="key is None") as caught:
        layer.apply(layer.init(KEY, jnp.ones((4, 3))), jnp.ones((4, 3)), train=True)
    assert caught.value.__notes__ == ["in the shortcut of Residual, Dropout(rate=0.5)"]
