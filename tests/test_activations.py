"""Activation functions: values against the reference, known answers, kinks, and the whole floating-point range."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Activation, activations, bind, log_softmax, sigmoid, softmax, tanh
from fnnet.backprop import vjp
from fnnet.binding import unbind
from tests import reference
from tests.cases import ACTIVATIONS, LayerCase

Function = Callable[..., Any]
INF, NAN = np.inf, np.nan
f = activations
leaky, wide_elu, steep_celu = bind(f.leaky_relu, slope=0.2), bind(f.elu, alpha=2.0), bind(f.celu, alpha=0.5)
gelu_tanh = bind(f.gelu, approximate=True)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", ACTIVATIONS, ids=str)
def test_value_equals_reference(case: LayerCase) -> None:
    function, options = unbind(case.build().function)
    z = case.x("float64") * 5
    expected = reference.ACTIVATIONS[function].value(np.asarray(z), **options)
    np.testing.assert_allclose(function(z, **options), expected, rtol=1e-12)


EXTREMES: list[tuple[Function, list[float], list[float]]] = [
    (f.identity, [1e4, -1e4, INF], [1e4, -1e4, INF]),
    (f.sigmoid, [1e4, -1e4, 0, INF, -INF], [1, 0, 0.5, 1, 0]),
    (f.tanh, [1e4, -1e4, 0, INF, -INF], [1, -1, 0, 1, -1]),
    (f.relu, [1e4, -1e4, 0, INF, -INF], [1e4, 0, 0, INF, 0]),
    (leaky, [1e4, -1e4, 0, INF, -INF], [1e4, -2e3, 0, INF, -INF]),
    (wide_elu, [1e4, -1e4, 0, INF, -INF], [1e4, -2, 0, INF, -2]),
    (f.selu, [1e4, -1e4, 0, INF, -INF], [10507.009873554805, -1.7580993408473766, 0, INF, -1.7580993408473766]),
    (steep_celu, [1e4, -1e4, 0, INF, -INF], [1e4, -0.5, 0, INF, -0.5]),
    (f.softplus, [1e4, -1e4, 0, INF, -INF], [1e4, 0, np.log(2), INF, 0]),
    (f.log_sigmoid, [1e4, -1e4, 0, INF, -INF], [0, -1e4, -np.log(2), 0, -INF]),
    (f.softsign, [3, -1, 0, INF, -INF], [0.75, -0.5, 0, 1, -1]),
    (f.silu, [1e4, -1e4, 0, INF, -INF], [1e4, 0, 0, INF, 0]),
    (f.gelu, [1e4, -1e4, 0, INF, -INF], [1e4, 0, 0, INF, 0]),
    (gelu_tanh, [1e4, -1e4, 0, INF, -INF], [1e4, 0, 0, INF, 0]),
    (f.mish, [1e4, -1e4, 0, INF, -INF], [1e4, 0, 0, INF, 0]),
    (f.hard_sigmoid, [-3, 0, 1.5, 3, INF, -INF], [0, 0.5, 0.75, 1, 1, 0]),
    (f.hard_tanh, [-1, 0.5, 1, INF, -INF], [-1, 0.5, 1, 1, -1]),
    (f.hard_silu, [-3, -1.5, 1.5, 3, INF, -INF], [0, -0.375, 1.125, 3, INF, 0]),
    (f.glu, [2, 3, 0, 1e4], [1, 3]),
    (f.glu, [2, 3, -1e4, INF], [0, 3]),
    (f.maxout, [1, 2, 5, -INF], [2, 5]),
    (bind(f.maxout, pieces=3), [1, 3, 2], [3]),
    (bind(f.maxout, pieces=1), [1, 3, 2], [1, 3, 2]),
    (softmax, [1e4, -1e4, 0], [1, 0, 0]),
    (softmax, [1e4, 1e4], [0.5, 0.5]),
    (softmax, [-1e4, -1e4], [0.5, 0.5]),
    (softmax, [-INF, 0], [0, 1]),
    (softmax, [7], [1]),
    (log_softmax, [1e4, -1e4, 0], [0, -2e4, -1e4]),
    (log_softmax, [-1e4, -1e4], [-np.log(2), -np.log(2)]),
    (log_softmax, [-INF, 0], [-INF, 0]),
    (log_softmax, [7], [0]),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("function", "z", "expected"), EXTREMES)
def test_extremes(function: Function, z: list[float], expected: list[float], dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        np.testing.assert_allclose(function(jnp.array(z, dtype)), expected, rtol=1e-6)


@pytest.mark.parametrize("function", sorted({row[0] for row in EXTREMES}, key=str), ids=lambda g: g.__name__)
def test_nan_stays_nan(function: Function) -> None:
    """The value, and the derivative by hand and by autodiff; that of the identity is 1 everywhere."""

    @jax.jit
    def run(z: jax.Array) -> tuple[jax.Array, ...]:
        a, by_hand = vjp(Activation(function), {}, z)
        return a, by_hand(jnp.ones_like(a))[1], jax.vjp(function, z)[1](jnp.ones_like(a))[0]

    value, *slopes = run(jnp.full(6, NAN))
    assert np.isnan(value).all()
    for slope in slopes:
        assert (slope == 1).all() if function is f.identity else np.isnan(slope).all()


@pytest.mark.parametrize("function", sorted({row[0] for row in EXTREMES}, key=str), ids=lambda g: g.__name__)
def test_nothing_gives_nothing(function: Function) -> None:
    """No examples, and along an axis no entries."""

    def run(z: jax.Array) -> tuple[jax.Array, ...]:
        a, by_hand = vjp(Activation(function), {}, z)
        return a, by_hand(a)[1], jax.vjp(function, z)[1](a)[0]

    for shape in ((0, 6), (2, 0)):
        value, *slopes = jax.eval_shape(run, jnp.zeros(shape))
        assert value.size == 0
        assert [slope.shape for slope in slopes] == [shape, shape]


@pytest.mark.parametrize(("function", "option"), [(f.leaky_relu, "slope"), (f.elu, "alpha"), (f.celu, "alpha")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_options_may_be_traced(function: Function, option: str, dtype: str) -> None:
    z = jnp.array([-2.0, -0.5, 1.0], dtype)

    def run(number: Any) -> list[jax.Array]:
        a, by_hand = vjp(Activation(bind(function, **{option: number})), {}, z)
        return [a, by_hand(jnp.ones_like(a))[1]]

    for traced, known in zip(jax.jit(run)(jnp.float32(0.5)), run(0.5), strict=True):
        assert traced.dtype == known.dtype == z.dtype
        np.testing.assert_allclose(np.asarray(traced, "float32"), np.asarray(known, "float32"), rtol=1e-2)


# The derivatives at kinks, as the docstrings state them, and at infinity.
SLOPES: list[tuple[Function, list[float], list[float]]] = [
    (f.relu, [0.0, -0.0], [0, 0]),
    (leaky, [0.0, -0.0, 1, -1], [0.2, 0.2, 1, 0.2]),
    (wide_elu, [0.0, -0.0, INF, -INF], [2, 2, 1, 0]),
    (f.selu, [0.0, -1e4], [1.0507009873554805 * 1.6732632423543772, 0]),
    (steep_celu, [0.0, INF, -INF], [1, 1, 0]),
    (f.softplus, [0, 1e4, -1e4, INF], [0.5, 1, 0, 1]),
    (f.log_sigmoid, [0, 1e4, -1e4], [0.5, 0, 1]),
    (f.softsign, [0.0, 1, -1, 3], [1, 0.25, 0.25, 1 / 16]),
    (f.silu, [0, 1e4, -1e4, INF, -INF], [0.5, 1, 0, 1, 0]),
    (f.gelu, [0, 1e4, -1e4, INF, -INF], [0.5, 1, 0, 1, 0]),
    (gelu_tanh, [0, 1e4, -1e4, INF, -INF], [0.5, 1, 0, 1, 0]),
    (f.mish, [0, 1e4, -1e4, INF, -INF], [0.6, 1, 0, 1, 0]),
    (f.hard_sigmoid, [-3, 3, 0, 4, -4], [0, 0, 1 / 6, 0, 0]),
    (f.hard_tanh, [-1, 1, 0, 2, -2], [0, 0, 1, 0, 0]),
    (f.hard_silu, [-3, 3, 0, 4, -4], [0, 1, 0.5, 1, 0]),
    (f.maxout, [2, 2, 1, 3], [1, 0, 0, 1]),
    (bind(f.maxout, pieces=3), [-INF, -INF, -INF, 5, 5, 7], [1, 0, 0, 0, 0, 1]),
]


@pytest.mark.parametrize(("function", "z", "expected"), SLOPES)
def test_slopes_at_kinks_and_extremes(function: Function, z: list[float], expected: list[float]) -> None:
    """By hand and by autodiff."""

    @jax.jit
    def run(z: jax.Array) -> list[jax.Array]:
        a, by_hand = vjp(Activation(function), {}, z)
        return [by_hand(jnp.ones_like(a))[1], jax.vjp(function, z)[1](jnp.ones_like(a))[0]]

    for slope in run(jnp.array(z, "float32")):
        np.testing.assert_allclose(slope, expected, rtol=1e-6)


def test_known_answers() -> None:
    """GELU(1) = Φ(1) and its tanh form, mish(1), the minimum of swish, and elu(−1)."""
    assert float(f.gelu(jnp.float32(1))) == pytest.approx(0.8413447, rel=1e-6)
    assert float(gelu_tanh(jnp.float32(1))) == pytest.approx(0.8411920, rel=1e-6)
    assert float(f.mish(jnp.float32(1))) == pytest.approx(0.8650984, rel=1e-6)
    assert float(f.silu(jnp.float32(-1.2784645))) == pytest.approx(-0.2784645, rel=1e-6)
    assert float(f.elu(jnp.float32(-1))) == pytest.approx(np.exp(-1) - 1, rel=1e-6)


@pytest.mark.usefixtures("x64")
def test_selu_keeps_mean_0_and_variance_1() -> None:
    """For a standard normal input, by the trapezoidal rule, which is exact to all digits for such functions."""
    z = jnp.linspace(-12, 12, 240_001)
    density = jnp.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    assert float((f.selu(z) * density).sum()) == pytest.approx(0, abs=1e-7)
    assert float((f.selu(z) ** 2 * density).sum()) == pytest.approx(1, abs=1e-7)


def test_small_arguments_keep_their_digits() -> None:
    """In float32 ``f(z)`` is about ``z`` or ``exp(z)`` where ``1 + z`` or ``1 + exp(z)`` rounds to 1."""
    small, low = jnp.array([1e-20]), jnp.array([-50.0])
    for function, slope in ((tanh, 1), (f.elu, 1), (f.softsign, 1), (f.silu, 0.5), (f.gelu, 0.5), (gelu_tanh, 0.5)):
        np.testing.assert_allclose(function(-small), [-slope * 1e-20], rtol=1e-6)
    for function in (sigmoid, f.softplus):
        np.testing.assert_allclose(function(low), [np.exp(-50)], rtol=1e-5)
    np.testing.assert_allclose(f.log_sigmoid(-low), [-np.exp(-50)], rtol=1e-5)
    np.testing.assert_allclose(f.mish(low), [-50 * np.exp(-50)], rtol=1e-5)


def test_softmax_sums_to_one_along_its_axis() -> None:
    z = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 4)), "float32")
    for axis in range(3):
        np.testing.assert_allclose(softmax(z, axis=axis).sum(axis), np.ones(np.delete(z.shape, axis)), rtol=1e-6)
        np.testing.assert_allclose(log_softmax(z, axis=axis), np.log(softmax(z, axis=axis)), rtol=1e-5, atol=1e-6)


Z = jnp.ones((2, 3))
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: f.glu(Z), r"activations.glu: axis -1 of shape \(2, 3\) cannot be halved; expected an even length"),
    (lambda: f.glu(Z[:1], axis=0), r"activations.glu: axis 0 of shape \(1, 3\) cannot be halved"),
    (lambda: f.glu(jnp.float32(1)), r"activations.glu: z has shape \(\), which has no axis -1"),
    (lambda: f.maxout(Z), r"activations.maxout: axis -1 of shape \(2, 3\) does not split into groups of 2"),
    (lambda: f.maxout(Z, pieces=3, axis=0), r"axis 0 of shape \(2, 3\) does not split into groups of 3"),
    (lambda: f.maxout(jnp.float32(1)), r"activations.maxout: z has shape \(\), which has no axis -1"),
    (lambda: f.glu(Z, axis=2), r"activations.glu: z has shape \(2, 3\), which has no axis 2"),
    (lambda: softmax(jnp.float32(1)), r"activations.softmax: z has shape \(\), which has no axis -1"),
    (lambda: log_softmax(jnp.float32(1)), r"activations.log_softmax: z has shape \(\), which has no axis -1"),
    (lambda: softmax(Z, axis=-3), r"activations.softmax: z has shape \(2, 3\), which has no axis -3"),
    (lambda: f.maxout(Z, pieces=0), "activations.maxout: pieces is 0; expected an integer of at least 1"),
    (lambda: f.maxout(Z, pieces=1.5), "pieces is 1.5"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
