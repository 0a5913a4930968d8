"""Every initializer has the variance that its docstring states, within five standard errors of the estimate."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import bind, initializers
from fnnet.types import Initializer
from tests.public import public_initializers

SHAPE = (300, 200)
ENTRIES = math.prod(SHAPE)
KERNEL = (3, 3, 20, 30)  # HWIO: fan-in 3·3·20, fan-out 3·3·30

NORMAL = [
    (bind(initializers.normal, stddev=0.5), SHAPE, 0.25),
    (initializers.glorot_normal, SHAPE, 2 / 500),
    (initializers.he_normal, SHAPE, 2 / 300),
    (initializers.lecun_normal, SHAPE, 1 / 300),
    (initializers.glorot_normal, KERNEL, 2 / (180 + 270)),
    (initializers.he_normal, KERNEL, 2 / 180),
    (initializers.lecun_normal, KERNEL, 1 / 180),
]
UNIFORM = [
    (bind(initializers.uniform, limit=0.5), SHAPE, 0.25 / 3),
    (initializers.glorot_uniform, SHAPE, 2 / 500),
    (initializers.he_uniform, SHAPE, 2 / 300),
    (initializers.lecun_uniform, SHAPE, 1 / 300),
    (initializers.glorot_uniform, KERNEL, 2 / (180 + 270)),
    (initializers.he_uniform, KERNEL, 2 / 180),
    (initializers.lecun_uniform, KERNEL, 1 / 180),
]
CONSTANT = [initializers.zeros, initializers.ones, initializers.identity]
EVERY = [
    *CONSTANT,
    initializers.orthogonal,
    initializers.with_spectral_radius,
    *(f for f, shape, _ in NORMAL + UNIFORM if shape == SHAPE),
]


def draw(function: Initializer, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(function(jax.random.key(0), shape, jnp.float32), np.float64)


def assert_moments(values: np.ndarray, variance: float, kurtosis: float) -> None:
    """The mean of n draws has the variance σ²/n; their mean square has the variance σ⁴ (kurtosis − 1)/n."""
    n = values.size
    assert abs(values.mean()) < 5 * math.sqrt(variance / n)
    assert abs((values**2).mean() / variance - 1) < 5 * math.sqrt((kurtosis - 1) / n)


@pytest.mark.parametrize(("function", "shape", "variance"), NORMAL)
def test_normal(function: Initializer, shape: tuple[int, ...], variance: float) -> None:
    values = draw(function, shape)
    assert_moments(values, variance, kurtosis=3)
    beyond = (np.abs(values) > 2 * math.sqrt(variance)).mean()  # 4.55 % of a normal distribution, none of a uniform one
    assert abs(beyond - 0.0455) < 5 * math.sqrt(0.0455 * 0.9545 / values.size)


@pytest.mark.parametrize(("function", "shape", "variance"), UNIFORM)
def test_uniform(function: Initializer, shape: tuple[int, ...], variance: float) -> None:
    values = draw(function, shape)
    assert_moments(values, variance, kurtosis=9 / 5)
    limit = math.sqrt(3 * variance)
    assert 0.999 * limit < np.abs(values).max() <= limit * (1 + 1e-6)


def test_zeros_and_ones() -> None:
    np.testing.assert_array_equal(draw(initializers.zeros, (2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(draw(initializers.ones, (2, 3)), np.ones((2, 3)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (3, 2, 4), (1, 1)])
@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_orthogonal(shape: tuple[int, ...], gain: float) -> None:
    """The columns or the rows, whichever are fewer, are orthonormal up to the gain."""
    w = np.asarray(initializers.orthogonal(jax.random.key(1), shape, jnp.float64, gain=gain)).reshape(-1, shape[-1])
    gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=1e-14 * gain**2)


def test_orthogonal_is_drawn_uniformly() -> None:
    """Every entry of a uniform orthogonal matrix has mean 0; QR alone would give the diagonal one sign."""
    draws = jax.vmap(lambda key: initializers.orthogonal(key, (2, 2)))(jax.random.split(jax.random.key(0), 2000))
    assert np.abs(np.asarray(draws).mean(0)).max() < 5 * math.sqrt(0.5 / 2000)
    assert abs(np.asarray(jnp.linalg.det(draws)).mean()) < 5 / math.sqrt(2000)


@pytest.mark.parametrize("function", EVERY, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_shape_and_dtype(function: Initializer, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        drawn = jax.eval_shape(lambda: function(jax.random.key(0), (3, 3), jnp.dtype(dtype)))
        assert (drawn.shape, drawn.dtype) == ((3, 3), jnp.dtype(dtype))


@pytest.mark.parametrize("function", EVERY[len(CONSTANT) :], ids=lambda f: f.__name__)
def test_equal_keys_give_equal_numbers(function: Initializer) -> None:
    one, same, other = (function(jax.random.key(seed), (3, 3), jnp.float32) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_identity() -> None:
    np.testing.assert_array_equal(draw(bind(initializers.identity, scale=0.5), (2, 3)), [[0.5, 0, 0], [0, 0.5, 0]])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("origin", [initializers.lecun_normal, initializers.orthogonal])
def test_spectral_radius(origin: Initializer) -> None:
    w = initializers.with_spectral_radius(jax.random.key(0), (20, 20), jnp.float64, radius=1.1, draw=origin)
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(w)).max(), 1.1, rtol=1e-12)
    other = np.asarray(origin(jax.random.key(0), (20, 20), jnp.float64))
    np.testing.assert_allclose(w / w[0, 0], other / other[0, 0], rtol=1e-12)  # the same matrix up to a factor


def test_every_initializer_is_tested() -> None:
    tested = {getattr(function, "function", function) for function in EVERY}
    assert public_initializers() == tested


@pytest.mark.parametrize("function", [initializers.he_normal, initializers.glorot_uniform, initializers.lecun_normal])
@pytest.mark.parametrize("shape", [(3,), (), (0, 3)])
def test_undefined_fans_are_refused(function: Initializer, shape: Any) -> None:
    with pytest.raises(ValueError, match=r"fan-in and fan-out of shape .* are undefined; expected at least two axes"):
        function(jax.random.key(0), shape, jnp.float32)


def test_orthogonal_refuses_a_vector() -> None:
    with pytest.raises(ValueError, match=r"initializers.orthogonal: shape is \(3,\); expected at least two axes"):
        initializers.orthogonal(jax.random.key(0), (3,))


@pytest.mark.parametrize(
    ("function", "shape"), [(initializers.identity, (3,)), (initializers.with_spectral_radius, (3, 2))]
)
def test_other_shapes_are_refused(function: Initializer, shape: Any) -> None:
    with pytest.raises(ValueError, match=rf"initializers.{function.__name__}: shape is \({shape[0]}, ?2?\); expected"):  # type: ignore[attr-defined]
        function(jax.random.key(0), shape, jnp.float32)
