"""Embeddings: a layer of integers, which have no gradient, through everything that differentiates."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Cost,
    Dense,
    Embedding,
    LSTMCell,
    Recurrent,
    backprop,
    check_gradients,
    evaluate,
    fit,
    losses,
    optimizers,
    sequential,
)
from fnnet.backprop import as_custom_vjp
from tests.cases import OF_TOKENS, LayerCase
from tests.compare import CountingTraces, assert_close, assert_identical
from tests.reference.attention import embedding_gradient

every_case = pytest.mark.parametrize("case", OF_TOKENS, ids=str)


@every_case
@pytest.mark.usefixtures("x64")
def test_rule_custom_vjp_autodiff_and_loops_are_equal(case: LayerCase) -> None:
    layer, params, x = case.build(), case.params(jnp.float64), case.x(None)
    dy = jnp.asarray(np.random.default_rng(1).standard_normal((*x.shape, layer.features)))

    @jax.jit
    def run(params: Any, x: jax.Array) -> Any:
        results = [backprop.vjp(layer, params, x)]
        results += [jax.vjp(lambda p, x: one.apply(p, x), params, x) for one in (layer, as_custom_vjp(layer))]  # noqa: B023
        return [(y, *pullback(dy)) for y, pullback in results]

    for y, dparams, dx in run(params, x):
        assert_close(y, np.asarray(params["table"])[np.asarray(x)], 0)
        assert_close(dparams, {"table": embedding_gradient(layer.entries, np.asarray(x), np.asarray(dy))}, 1e-14)
        assert dx.dtype == jax.dtypes.float0
        assert dx.shape == x.shape


@every_case
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_everything_is_of_the_tables_dtype(case: LayerCase, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        layer = Embedding(case.build().entries, 3, dtype)

        def run(x: jax.Array) -> Any:
            params = layer.init(jax.random.key(0), x)
            y, pullback = backprop.vjp(layer, params, x)
            return params, y, pullback(y)[0]

        assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(run, case.x(None)))} == {jnp.dtype(dtype)}


@every_case
def test_properties_of_every_layer(case: LayerCase) -> None:
    """Layers built alike are equal and share a trace; ``init`` needs only the shape; ``vmap`` works."""
    assert case.build() == case.build()
    assert hash(case.build()) == hash(case.build())
    x = case.x(None)
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    params = case.build().init(jax.random.key(3), x)
    assert_identical(case.build().init(jax.random.key(3), shape), params)
    traced = CountingTraces(lambda layer, params, x: layer.apply(params, x))
    run = jax.jit(traced, static_argnums=0)
    y = [run(case.build(), params, x) for _ in range(2)]
    assert traced.count == 1
    assert_identical(y[0], case.build().apply(params, x))
    two = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    together = jax.vmap(case.build().apply)(two, jnp.stack([x, x]))
    assert_identical(together, jnp.stack([y[0], 2 * y[0]]))


def test_the_table_starts_standard_normal_in_its_dtype() -> None:
    table = Embedding(300, 200).init(jax.random.key(0), jnp.zeros((1, 1), int))["table"]
    assert table.shape == (300, 200)
    assert table.dtype == "float32"
    assert float(table.std()) == pytest.approx(1, rel=0.01)
    assert Embedding(3, 2, "float32") == Embedding(3, 2, jnp.float32) == Embedding(3, 2)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32])
def test_any_integers_are_tokens(dtype: Any) -> None:
    """Also a dtype that does not hold the number of entries works."""
    table = jnp.arange(300.0)[:, None]
    tokens = np.array([[0, 5], [100, 127]], dtype)
    np.testing.assert_array_equal(jax.jit(Embedding(300, 1).apply)({"table": table}, tokens)[..., 0], tokens)


def test_tokens_out_of_range() -> None:
    """They raise where they are known. Else they give NaN, and no row of the table gets a gradient."""
    layer, params = Embedding(3, 2), {"table": jnp.ones((3, 2))}
    for bad in (3, -1):
        tokens = jnp.array([0, bad, 2])
        with pytest.raises(ValueError, match=f"x has the token {bad}; expected 0 .. 2"):
            layer.apply(params, tokens)
        y = jax.jit(layer.apply)(params, tokens)
        np.testing.assert_array_equal(np.isnan(y).all(-1), [False, True, False])
        for vjp in (backprop.vjp, lambda layer, p, x: jax.vjp(layer.apply, p, x)):
            run = jax.jit(lambda p, x: vjp(layer, p, x)[1](jnp.ones((3, 2)))[0])  # noqa: B023
            np.testing.assert_array_equal(run(params, tokens)["table"], [[1, 1], [0, 0], [1, 1]])


def test_many_times_the_same_token() -> None:
    """The sum is in float32, because 256 + 1 is 256 in bfloat16."""
    layer = Embedding(2, 1, "bfloat16")
    y, pullback = backprop.vjp(layer, {"table": jnp.ones((2, 1), "bfloat16")}, jnp.zeros(1000, int))
    dparams, _ = pullback(jnp.ones_like(y))
    np.testing.assert_array_equal(dparams["table"].astype("float32"), [[1000], [0]])


def test_what_are_no_tokens_is_refused() -> None:
    layer = Embedding(3, 2)
    for call in (
        lambda: layer.init(jax.random.key(0), jnp.ones((2, 2))),
        lambda: layer.apply({"table": jnp.ones((3, 2))}, jnp.ones((2, 2))),
        lambda: layer.apply({"table": jnp.ones((3, 2))}, jnp.ones((2, 2), bool)),
    ):
        with pytest.raises(
            TypeError, match=r"Embedding\(entries=3, features=2\): x has dtype .*expected integer tokens"
        ):
            call()
    with pytest.raises(TypeError, match="x is of the type int; expected one array"):
        layer.apply({"table": jnp.ones((3, 2))}, 3)
    with pytest.raises(ValueError, match=r"table has shape \(2, 3\); expected table \(3, 2\)"):
        layer.apply({"table": jnp.ones((2, 3))}, jnp.zeros(2, int))
    with pytest.raises(ValueError, match="entries is 0"):
        Embedding(0, 2)
    with pytest.raises(ValueError, match="features is 0"):
        Embedding(2, 0)
    with pytest.raises(ValueError, match="dtype is int32; expected floating point"):
        Embedding(2, 2, "int32")


TOKENS = np.random.default_rng(0).integers(0, 6, (64, 5))
FIRST = (TOKENS[:, 0] % 3).astype(np.int32)
MODEL = sequential(Embedding(6, 8), Recurrent(LSTMCell(8), return_sequences=False), Dense(3))
COST = Cost(MODEL, losses.softmax_cross_entropy)


@pytest.mark.parametrize("subject", [COST, MODEL.layers[0]], ids=["cost", "layer"])
def test_a_network_of_tokens_is_checked(subject: Any) -> None:
    params, x = MODEL.init(jax.random.key(0), TOKENS), TOKENS[:4]
    given = (params[0] if subject is MODEL.layers[0] else params), (x, FIRST[:4]) if subject is COST else x
    report = check_gradients(subject, *given, differences=subject is MODEL.layers[0])
    assert report.ok, str(report)
    assert {row.path for row in report.rows} & {"table", "0.table"}


def test_a_network_of_tokens_learns() -> None:
    """It learns the first of five tokens modulo three, with gradients by hand."""
    params = MODEL.init(jax.random.key(0), TOKENS)
    result = fit(
        COST,
        optimizers.adam(0.02),
        params,
        (TOKENS, FIRST),
        key=jax.random.key(1),
        epochs=40,
        batch_size=32,
        value_and_grad=backprop.value_and_grad,
    )
    assert result.history["cost"][-1] < 0.1
    assert float(evaluate(COST, result.state.params, (TOKENS, FIRST))["cost"]) < 0.1


def test_fit_refuses_tokens_out_of_range() -> None:
    params = MODEL.init(jax.random.key(0), TOKENS)
    with pytest.raises(ValueError, match=r"fit: .*x has the token 6; expected 0 \.\. 5"):
        fit(COST, optimizers.sgd(0.1), params, (TOKENS + 1, FIRST), key=jax.random.key(1))
