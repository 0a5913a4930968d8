"""Properties of every layer in the table, and of single layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Activation, Dense, Dropout, Flatten, Sequential, bind, initializers, relu, sequential, softmax, tanh
from tests.cases import LAYERS, NOT_ELEMENTWISE, LayerCase
from tests.compare import CountingTraces, assert_close, assert_identical

every_layer = pytest.mark.parametrize("case", LAYERS, ids=str)


@every_layer
def test_equal_and_hashable_when_built_again(case: LayerCase) -> None:
    one, other = case.build(), case.build()
    assert one is not other
    assert one == other
    assert hash(one) == hash(other)
    assert repr(one) == repr(other)


@every_layer
@pytest.mark.usefixtures("x64")
def test_jit_equals_eager_and_does_not_retrace(case: LayerCase) -> None:
    traced = CountingTraces(lambda layer, train, params, x, key: layer.apply(params, x, key=key, train=train))
    run = jax.jit(traced, static_argnums=(0, 1))
    params, x = case.params(jnp.float64), case.x(jnp.float64)
    compiled = [run(case.build(), case.train, params, x, case.options()["key"]) for _ in range(2)]
    assert traced.count == 1
    assert_identical(*compiled)
    eager = case.build().apply(params, x, **case.options())
    assert_close(compiled[0], eager, 1e-14)
    assert eager.shape == jax.eval_shape(case.build().apply, params, x).shape


@every_layer
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtype_is_kept(case: LayerCase, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        x = case.x(dtype)
        layer = case.build()

        def run(x: jax.Array) -> Any:
            params = layer.init(jax.random.key(0), x)
            return params, layer.apply(params, x, **case.options())

        assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(run, x))} == {jnp.dtype(dtype)}


@every_layer
def test_init_needs_only_the_shape(case: LayerCase) -> None:
    x = case.x(jnp.float32)
    of_array = case.build().init(jax.random.key(3), x)
    of_shape = case.build().init(jax.random.key(3), jax.ShapeDtypeStruct(x.shape, x.dtype))
    assert_identical(of_array, of_shape)


@pytest.mark.parametrize("case", NOT_ELEMENTWISE, ids=str)
@pytest.mark.usefixtures("x64")
def test_vmap_over_networks(case: LayerCase) -> None:
    """Two networks at once give what each gives alone."""
    layer, xs = case.build(), jnp.stack([case.x(jnp.float64), -case.x(jnp.float64)])
    params = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), case.params(jnp.float64))
    run = jax.jit(lambda p, x: layer.apply(p, x, **case.options()))
    together = jax.vmap(run)(params, xs)
    for i in range(2):
        alone = run(jax.tree.map(lambda p: p[i], params), xs[i])  # noqa: B023
        assert_close(together[i], alone, 1e-14)


@pytest.mark.parametrize("case", [case for case in NOT_ELEMENTWISE if not case.mixes_examples], ids=str)
def test_examples_do_not_mix(case: LayerCase) -> None:
    """Changing the last example does not change a bit in the outputs of the others."""
    layer, params, x = case.build(), case.params(jnp.float32), case.x(jnp.float32)
    y, changed = (layer.apply(params, v, **case.options()) for v in (x, x.at[-1].add(1)))
    np.testing.assert_array_equal(y[:-1], changed[:-1])


def test_scan_over_a_layer() -> None:
    layer, x = Dense(3), jnp.ones((2, 3))
    params = layer.init(jax.random.key(0), x)
    last, _ = jax.lax.scan(lambda h, _: (layer.apply(params, h), None), x, length=3)
    assert_close(last, layer.apply(params, layer.apply(params, layer.apply(params, x))), 1e-6)


def test_dense_starts_he_normal_with_zero_bias() -> None:
    params = Dense(200).init(jax.random.key(0), jax.ShapeDtypeStruct((1, 300), jnp.float32))
    assert params["w"].shape == (300, 200)
    assert float(params["w"].var()) == pytest.approx(2 / 300, rel=0.03)  # standard error √(2 / 60000) = 0.6 %
    np.testing.assert_array_equal(params["b"], np.zeros(200))


def test_dense_takes_initializers() -> None:
    layer = Dense(2, w_init=bind(initializers.normal, stddev=0.0), b_init=bind(initializers.uniform, limit=5.0))
    params = layer.init(jax.random.key(0), jnp.ones((1, 3)))
    np.testing.assert_array_equal(params["w"], np.zeros((3, 2)))
    assert float(jnp.abs(params["b"]).max()) > 0.1


def test_dense_known_answer() -> None:
    params = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "b": jnp.array([10.0, 20.0])}
    np.testing.assert_array_equal(Dense(2).apply(params, jnp.array([[1.0, -1.0]])), [[8.0, 18.0]])


def test_dropout_is_the_identity_outside_training() -> None:
    x = jnp.ones((3, 2))
    np.testing.assert_array_equal(Dropout(0.9).apply({}, x), x)


def test_dropout_drops_at_its_rate_and_keeps_the_mean() -> None:
    x = jnp.ones((200, 300))
    y = np.asarray(Dropout(0.25).apply({}, x, key=jax.random.key(0), train=True))
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-6)
    dropped = (y == 0).mean()
    assert abs(dropped - 0.25) < 5 * np.sqrt(0.25 * 0.75 / y.size)


def test_sequential_keys_its_layers_by_their_place() -> None:
    """Layer i draws from ``fold_in(key, i)``, so that two equal layers start differently."""
    model = sequential(Dense(3), Dense(3))
    params = model.init(jax.random.key(4), jnp.ones((1, 3)))
    for i in range(2):
        alone = Dense(3).init(jax.random.fold_in(jax.random.key(4), i), jnp.ones((1, 3)))
        assert_identical(params[i], alone)
    assert not np.array_equal(params[0]["w"], params[1]["w"])


def test_sequential_drops_with_the_keys_of_its_layers() -> None:
    x = jnp.ones((4, 5))
    y = sequential(relu, Dropout(0.5)).apply(({}, {}), x, key=jax.random.key(1), train=True)
    alone = Dropout(0.5).apply({}, x, key=jax.random.fold_in(jax.random.key(1), 1), train=True)
    np.testing.assert_array_equal(y, alone)


def test_sequential_wraps_bare_functions() -> None:
    assert sequential(relu, bind(softmax, axis=0)).layers == (Activation(relu), Activation(bind(softmax, axis=0)))
    assert repr(sequential(tanh)) == "Sequential(layers=(Activation(tanh),))"


X = jnp.ones((5, 3))
REFUSED = [
    (lambda: Dense(0), ValueError, "Dense: features is 0; expected an integer of at least 1"),
    (lambda: Dense(2.0), ValueError, "features is 2.0"),
    (lambda: Dense(True), ValueError, "features is True"),
    (lambda: Dense(2).init(jax.random.key(0), jnp.ones((5, 0))), ValueError, "expected its features on the last axis"),
    (lambda: Dense(2).init(jax.random.key(0), jnp.ones((5, 3), int)), TypeError, "x has dtype int32"),
    (
        lambda: Dense(2).apply({"w": jnp.ones((4, 2)), "b": jnp.ones(2)}, X),
        ValueError,
        r"x has shape \(5, 3\) but w has shape \(4, 2\); expected w \(3, 2\): reshape x, or init the parameters",
    ),
    (
        lambda: Dense(2).apply({"w": jnp.ones((3, 2), jnp.bfloat16), "b": jnp.ones(2, jnp.bfloat16)}, X),
        TypeError,
        "x has dtype float32 but w has bfloat16",
    ),
    (lambda: Flatten().apply({}, jnp.float32(1)), ValueError, "Flatten: x is a scalar"),
    (lambda: Dropout(1.0), ValueError, r"Dropout: rate is 1.0; expected a number in \[0, 1\)"),
    (lambda: Dropout(-0.1), ValueError, "rate is -0.1"),
    (lambda: Dropout(float("nan")), ValueError, "rate is nan"),
    (lambda: Dropout(0.5).apply({}, X, train=True), ValueError, r"Dropout\(rate=0.5\): train=True .* key is None"),
    (lambda: Activation("relu"), TypeError, "'relu' is not a function"),
    (lambda: Activation(relu).apply({}, jnp.ones(3, int)), TypeError, r"Activation\(relu\): x has dtype int32"),
    (lambda: Sequential([Dense(2)]), TypeError, "layers is a list; expected a tuple"),
    (lambda: sequential([Dense(2), relu]), TypeError, r"layer 0 is \[.*write sequential\(\*layers\) for a list"),
    (lambda: sequential(Dense), TypeError, r"layer 0 is .*Dense.*; write Dense\(...\)"),
    (lambda: Sequential((relu,)), TypeError, "layer 0 is .*; wrap a function in Activation"),
    (lambda: sequential(Dense(2)).apply((), X), ValueError, "params has 0 entries but there are 1 layers"),
    (
        lambda: sequential(Dense(2)).apply({}, X),
        TypeError,
        "params is a dict; expected a tuple with one entry per layer",
    ),
    (lambda: sequential(Dense(2)).apply([{}], X), TypeError, "params is a list; expected a tuple"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_an_error_names_the_layer_of_a_sequential() -> None:
    model = sequential(Dense(2), Dropout(0.5))
    params = model.init(jax.random.key(0), X)
    with pytest.raises(ValueError, match="key is None") as caught:
        model.apply(params, X, train=True)
    assert caught.value.__notes__[0] == "in layer 1 of Sequential, Dropout(rate=0.5)"
