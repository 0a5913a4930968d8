"""Activation functions: values against the reference, and over the whole floating-point range."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import activations, log_softmax, relu, sigmoid, softmax, tanh
from fnnet.binding import unbind
from tests import reference
from tests.cases import ACTIVATIONS, LayerCase

INF = np.inf


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", ACTIVATIONS, ids=str)
def test_value_equals_reference(case: LayerCase) -> None:
    function, options = unbind(case.build().function)
    z = case.x("float64") * 5
    expected = reference.ACTIVATIONS[function].value(np.asarray(z), **options)
    np.testing.assert_allclose(function(z, **options), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("function", "z", "expected"),
    [
        (sigmoid, [1e4, -1e4, 0, INF, -INF], [1, 0, 0.5, 1, 0]),
        (tanh, [1e4, -1e4, 0, INF, -INF], [1, -1, 0, 1, -1]),
        (relu, [1e4, -1e4, 0, INF, -INF], [1e4, 0, 0, INF, 0]),
        (activations.identity, [1e4, -1e4, INF], [1e4, -1e4, INF]),
        (softmax, [1e4, -1e4, 0], [1, 0, 0]),
        (softmax, [1e4, 1e4], [0.5, 0.5]),
        (softmax, [-1e4, -1e4], [0.5, 0.5]),
        (softmax, [-INF, 0], [0, 1]),
        (softmax, [7], [1]),
        (log_softmax, [1e4, -1e4, 0], [0, -2e4, -1e4]),
        (log_softmax, [-1e4, -1e4], [-np.log(2), -np.log(2)]),
        (log_softmax, [-INF, 0], [-INF, 0]),
        (log_softmax, [7], [0]),
    ],
)
def test_extremes(
    function: Callable[[jax.Array], jax.Array], z: list[float], expected: list[float], dtype: str
) -> None:
    with jax.enable_x64(dtype == "float64"):
        np.testing.assert_allclose(function(jnp.array(z, dtype)), expected, rtol=1e-6)


@pytest.mark.parametrize("function", [sigmoid, tanh, relu, softmax, log_softmax, activations.identity])
def test_nan_stays_nan(function: Callable[[jax.Array], jax.Array]) -> None:
    assert np.isnan(function(jnp.array([jnp.nan, 1.0]))[0])


def test_small_arguments_keep_their_digits() -> None:
    """In float32: tanh z = z and σ(z) = exp(z) for z where 1 + z, or 1 + exp(z), is rounded to 1."""
    np.testing.assert_allclose(tanh(jnp.array([1e-20])), [1e-20], rtol=1e-6)
    np.testing.assert_allclose(sigmoid(jnp.array([-50.0])), [np.exp(-50)], rtol=1e-5)


@pytest.mark.parametrize("z", [0.0, -0.0])
def test_relu_has_derivative_zero_at_the_kink(z: float) -> None:
    assert float(jax.grad(relu)(z)) == 0


def test_softmax_sums_to_one_along_its_axis() -> None:
    z = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 4)), "float32")
    for axis in range(3):
        np.testing.assert_allclose(softmax(z, axis=axis).sum(axis), np.ones(np.delete(z.shape, axis)), rtol=1e-6)
        np.testing.assert_allclose(log_softmax(z, axis=axis), np.log(softmax(z, axis=axis)), rtol=1e-5, atol=1e-6)
