"""Second derivatives: forward mode through the hand-written rules."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Activation, Cost, Dense, Dropout, activations, backprop, bind, losses, penalties, sequential
from fnnet.backprop import as_custom_vjp
from fnnet.backprop.losses import loss_gradient
from fnnet.binding import name_of
from tests.cases import SEED, random_params
from tests.compare import assert_close

pytestmark = pytest.mark.usefixtures("x64")


X = np.random.default_rng(SEED).standard_normal((3, 2))
LABELS = np.array([0, 1, 1])
REAL = np.random.default_rng(SEED + 1).standard_normal((3, 2))
GELU_TANH = bind(activations.gelu, approximate=True)
COSTS = [
    (activations.tanh, losses.softmax_cross_entropy, LABELS),
    (activations.relu, losses.softmax_cross_entropy, LABELS),
    (activations.gelu, losses.squared_error, REAL),
    (activations.softplus, bind(losses.focal, smoothing=0.1), LABELS),
    (activations.maxout, losses.log_cosh, REAL),
]


def hessians(of: Callable[..., Any], inner: Any, loss: Any, target: Any) -> Any:
    model = sequential(Dense(2), inner, Dense(2))
    cost = Cost(of(model), loss, penalties.l2(0.1))
    params = random_params(model, jnp.asarray(X))
    return jax.jit(jax.hessian(cost))(params, (jnp.asarray(X), jnp.asarray(target)))


@pytest.mark.parametrize(("inner", "loss", "target"), COSTS, ids=[row[0].__name__ for row in COSTS])
def test_hessian_through_custom_vjp(inner: Any, loss: Any, target: Any) -> None:
    by_rule = hessians(as_custom_vjp, inner, loss, target)
    assert_close(by_rule, hessians(lambda model: model, inner, loss, target))
    if inner is not activations.maxout:  # maxout halves the features, so its blocks have other shapes
        assert by_rule[0]["w"][2]["b"].shape == (2, 2, 2)


def test_hessian_of_a_quadratic_is_known() -> None:
    """½ mean (x w)² has the Hessian xᵀ x / N; the penalty adds its strength to the diagonal."""
    x = jnp.asarray(X)
    cost = Cost(as_custom_vjp(Dense(1, use_bias=False)), losses.half_squared_error, penalties.l2(0.3))
    hessian = jax.jit(jax.hessian(cost))({"w": jnp.ones((2, 1))}, (x, jnp.zeros((3, 1))))["w"]["w"]
    assert_close(hessian[:, 0, :, 0], X.T @ X / 3 + 0.3 * np.eye(2))


def test_hessian_vector_product_of_the_gradient_by_hand() -> None:
    """``jax.jvp`` of ``backprop.grad`` needs no Hessian: forward mode runs through the hand-written backward pass."""
    model = sequential(Dense(3), activations.tanh, Dropout(0.5), Dense(2), activations.softmax)
    cost = Cost(model, losses.cross_entropy, penalties.elastic_net(0.1, 0.2), ignore_label=1)
    params, batch = random_params(model, jnp.asarray(X)), (jnp.asarray(X), jnp.asarray(LABELS))
    direction = jax.tree.map(jnp.cos, params)

    @jax.jit
    def products(params: Any) -> Any:
        options = [{"key": jax.random.key(0), "train": True} for _ in range(2)]
        return [
            jax.jvp(lambda p: of(cost)(p, batch, **option), (params,), (direction,))  # noqa: B023
            for of, option in zip((backprop.grad, jax.grad), options, strict=True)
        ]

    assert_close(*products(params))


@pytest.mark.parametrize("f", [activations.silu, activations.gelu, GELU_TANH, activations.mish], ids=name_of)
def test_of_activations_in_float32(f: Any) -> None:
    """The slope of the hand-written derivative is right in float32, also near the derivative's root."""
    z = jnp.linspace(-3, 1, 41)
    layer = as_custom_vjp(Activation(f))

    def slope(z: Any) -> Any:
        return jax.vjp(lambda z: layer.apply({}, z), z)[1](jnp.ones_like(z))[0]

    z32 = z.astype("float32")
    found = jax.jit(lambda z: jax.jvp(slope, (z,), (jnp.ones_like(z),))[1])(z32)
    np.testing.assert_allclose(found, jax.vmap(jax.grad(jax.grad(f)))(z32.astype("float64")), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "target"),
    [(losses.softmax_cross_entropy, [0.7, 0.2]), (bind(losses.focal, smoothing=0.1), 1), (losses.cosine, [0.7, 0.2])],
    ids=name_of,
)
def test_of_losses_in_float32(loss: Any, target: Any) -> None:
    """The slope of the hand-written gradient is right in float32."""
    target32, target = (jnp.asarray([target], kind if isinstance(target, list) else int) for kind in ("float32", float))
    x = jnp.asarray([[0.3, -1.2]])
    found = jax.jit(jax.jacfwd(lambda x: loss_gradient(loss, x, target32)))(x.astype("float32"))
    expected = jax.hessian(lambda x: loss(x, target).sum())(x)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-6)


def test_forward_mode_of_the_layer_itself_is_refused() -> None:
    """``jax.custom_vjp`` does not support it, and the docstring says so."""
    layer = as_custom_vjp(Dense(2))
    params = random_params(layer, jnp.asarray(X))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: layer.apply(params, x), (jnp.asarray(X),), (jnp.asarray(X),))
