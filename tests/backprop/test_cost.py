"""The gradient of a whole cost by hand against ``jax.value_and_grad``."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Activation,
    Cost,
    Dense,
    Dropout,
    backprop,
    bind,
    losses,
    penalties,
    sequential,
    sigmoid,
    softmax,
    tanh,
)
from fnnet.backprop import cost as cost_module
from tests.cases import LOSSES, PENALTIES, SEED, LossCase, network_params, random_params
from tests.compare import assert_close

x64 = pytest.mark.usefixtures("x64")
Setting = tuple[Cost, Any, tuple[jax.Array, jax.Array]]


def setting(case: LossCase, dtype: str = "float64", head: Callable[..., jax.Array] | None = None) -> Setting:
    """Return a network with parameters and a batch for a loss case: two features in, the case's outputs out."""
    prediction, target = case.arrays(dtype)
    model = sequential(Dense(prediction.shape[-1]), head or case.head)
    x = jnp.asarray(np.random.default_rng(SEED).standard_normal((*prediction.shape[:-1], 2)), dtype)
    return Cost(model, case.loss), random_params(model, x), (x, target)


def assert_engines_agree(cost: Cost, params: Any, batch: Any, *, key: Any = None, train: bool = False) -> None:
    @jax.jit
    def engines(params: Any, batch: Any, key: Any) -> Any:
        return [of(cost)(params, batch, key=key, train=train) for of in (backprop.value_and_grad, jax.value_and_grad)]

    assert_close(*engines(params, batch, key))


@x64
@pytest.mark.parametrize("case", LOSSES, ids=str)
def test_every_loss(case: LossCase) -> None:
    assert_engines_agree(*setting(case))


@x64
@pytest.mark.parametrize("case", [c for c in LOSSES if c.head is softmax and c.arrays("float32")[0].ndim == 2], ids=str)
def test_softmax_that_is_not_fused(case: LossCase) -> None:
    """Over axis 1 of two, which is the last axis but is not recognized as such."""
    assert_engines_agree(*setting(case, head=bind(softmax, axis=1)))


@x64
def test_softmax_over_another_axis_is_not_fused() -> None:
    case = next(case for case in LOSSES if case.name == "cross_entropy of a sequence")
    prediction, target = case.arrays("float64")
    model = sequential(Dense(prediction.shape[-1]), tanh, bind(softmax, axis=1))
    params = random_params(model, prediction)
    assert_engines_agree(Cost(model, case.loss), params, (prediction, target))


@x64
@pytest.mark.parametrize("case", PENALTIES, ids=str)
def test_every_penalty(case: Any) -> None:
    model = sequential(Dense(2), Dense(1))
    params = jax.tree.map(lambda p: p + 0.01, network_params(jnp.float64))  # no weight where |w| has a kink
    batch = (jnp.linspace(-1, 1, 12).reshape(4, 3), jnp.ones((4, 1)))
    assert_engines_agree(Cost(model, losses.squared_error, case.penalty), params, batch)


@x64
@pytest.mark.parametrize("train", [True, False])
def test_key_and_train_reach_the_model(train: bool) -> None:
    model = sequential(Dropout(0.5), Dense(4), Dropout(0.5), Dense(3), softmax)
    x, y = jnp.linspace(-1, 1, 20).reshape(4, 5), jnp.array([0, 2, 1, 1])
    params = random_params(model, x)
    cost = Cost(model, losses.cross_entropy)
    assert_engines_agree(cost, params, (x, y), key=jax.random.key(3), train=train)
    value = jax.jit(lambda key: cost(params, (x, y), key=key, train=train))
    values = [float(value(jax.random.key(seed))) for seed in (3, 4)]
    assert (values[0] != values[1]) == train


@x64
def test_grad_is_the_gradient_of_value_and_grad() -> None:
    cost, params, batch = setting(LOSSES[0])
    assert_close(backprop.grad(cost)(params, batch), backprop.value_and_grad(cost)(params, batch)[1])


@x64
def test_a_deep_network() -> None:
    model = sequential(Dense(3), tanh, Dense(4), sigmoid, Dense(3), softmax)
    x, y = jnp.linspace(-1, 1, 8).reshape(4, 2), jnp.array([0, 2, 1, 1])
    assert_engines_agree(Cost(model, losses.cross_entropy, penalties.l2(0.3)), random_params(model, x), (x, y))


@x64
def test_models_that_are_no_sequential() -> None:
    x, y = jnp.ones((4, 3)), jnp.zeros((4, 2))
    dense = Dense(2)
    assert_engines_agree(Cost(dense, losses.squared_error), random_params(dense, x), (x, y))
    custom = backprop.as_custom_vjp(sequential(dense, tanh))
    params = random_params(custom, x)
    assert_engines_agree(Cost(custom, losses.squared_error), params, (x, y))


@x64
def test_activation_alone_as_a_model() -> None:
    """The fused activation is the only layer of the model."""
    cost = Cost(sequential(Activation(softmax)), losses.cross_entropy)
    assert_engines_agree(cost, ({},), (jnp.ones((2, 3)), jnp.array([0, 2])))


@x64
@pytest.mark.parametrize("examples", [1, 2, 7])
def test_one_over_n(examples: int) -> None:
    """For ŷ = x w with x = 1 and loss ½ (ŷ − y)², the gradient is the mean of ŷ − y for any number of examples."""
    y = jnp.arange(examples, dtype=float)[:, None]
    cost = Cost(Dense(1, use_bias=False), losses.half_squared_error)
    grads = backprop.grad(cost)({"w": jnp.ones((1, 1))}, (jnp.ones((examples, 1)), y))
    assert float(grads["w"][0, 0]) == pytest.approx(1 - (examples - 1) / 2, abs=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", LOSSES, ids=str)
def test_dtype_is_kept(case: LossCase, dtype: str) -> None:
    cost, params, batch = setting(case, dtype)
    result = jax.eval_shape(backprop.value_and_grad(Cost(cost.model, cost.loss, penalties.l2(0.1))), params, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype(dtype)}


@x64
def test_compiled_and_for_many_networks_at_once() -> None:
    cost, params, batch = setting(LOSSES[0])
    stacked = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    values, grads = jax.jit(jax.vmap(backprop.value_and_grad(cost), in_axes=(0, None)))(stacked, batch)
    expected = jax.value_and_grad(cost)(jax.tree.map(lambda p: 2 * p, params), batch)
    assert_close((values[1], jax.tree.map(lambda g: g[1], grads)), expected)


SATURATED = [
    (softmax, losses.cross_entropy, jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]]), jnp.array([1, 1])),
    (sigmoid, losses.binary_cross_entropy, jnp.array([[1e4], [-1e4]]), jnp.array([[0.0], [0.0]])),
]


@pytest.mark.parametrize(("head", "loss", "z", "y"), SATURATED, ids=["softmax", "sigmoid"])
def test_fused_is_finite_where_the_chain_rule_is_not(head: Any, loss: Any, z: jax.Array, y: jax.Array) -> None:
    """dw = zᵀ (p − y) / N for a network whose only weights are the identity."""
    model = sequential(Dense(z.shape[-1], use_bias=False), head)
    params = ({"w": jnp.eye(z.shape[-1])}, {})
    cost = Cost(model, loss)
    p = np.asarray(head(z), np.float64)
    one_hot = np.eye(z.shape[-1])[np.asarray(y)] if loss is losses.cross_entropy else np.asarray(y, np.float64)
    value, grads = jax.jit(backprop.value_and_grad(cost))(params, (z, y))
    assert float(value) == np.inf  # a certain and wrong prediction; only its gradient is finite
    assert_close(grads[0]["w"], np.asarray(z, np.float64).T @ (p - one_hot) / 2, 1e-6)
    assert not np.isfinite(jax.jit(jax.grad(cost))(params, (z, y))[0]["w"]).all()


def test_no_autodiff_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("autodiff was called")

    cost, params, batch = setting(LOSSES[0], "float32")
    for name in ("grad", "value_and_grad", "vjp", "jvp", "linearize", "jacrev", "jacfwd"):
        monkeypatch.setattr(jax, name, refuse)
    backprop.value_and_grad(cost)(params, batch)


def test_a_function_is_refused() -> None:
    with pytest.raises(TypeError, match=r"cost is .*lambda.*; expected a fnnet.Cost"):
        backprop.value_and_grad(lambda params, batch: 0.0)


def test_wrong_number_of_params_is_refused() -> None:
    cost = Cost(sequential(Dense(3), softmax), losses.cross_entropy)
    with pytest.raises(ValueError, match="params has 1 entries but there are 2 layers"):
        backprop.value_and_grad(cost)(({},), (jnp.ones((2, 3)), jnp.array([0, 1])))


def test_params_given_as_a_list_are_refused() -> None:
    """Also where the last activation and the loss have one gradient together."""
    for case in (next(case for case in LOSSES if case.head is softmax), LOSSES[0]):
        cost, params, batch = setting(case, "float32")
        with pytest.raises(TypeError, match="Sequential: params is a list; expected a tuple"):
            backprop.value_and_grad(cost)(list(params), batch)


def test_the_mean_is_over_every_position() -> None:
    """(N, T, K): each of the N T positions counts once, except those of an ignored label."""
    cost = Cost(Dense(4), losses.squared_error)
    np.testing.assert_allclose(
        cost_module.of_mean(cost, jnp.ones((2, 3, 4)), jnp.ones((2, 3, 4))), np.full((2, 3, 4), 1 / 6), rtol=1e-6
    )
    ignoring = Cost(Dense(4), losses.softmax_cross_entropy, ignore_label=-1)
    labels = jnp.array([[0, -1, 2], [-1, -1, 3]])
    np.testing.assert_allclose(
        cost_module.of_mean(ignoring, jnp.ones((2, 3, 4)), labels),
        np.where(labels[..., None] == -1, 0, np.full((2, 3, 4), 1 / 3)),
        rtol=1e-6,
    )
