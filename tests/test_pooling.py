"""Pooling and upsampling equal loops and XLA; known values, ties, infinities and errors."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fnnet import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool, Upsample, sequential
from fnnet.backprop import as_custom_vjp, vjp
from fnnet.types import Layer
from tests import reference
from tests.cases import SEED
from tests.compare import assert_close, assert_identical

UNEVEN = ((2, 0), (0, 1))
WINDOWS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 4, 6, 2), {"window": 2}),
    ((2, 5, 7, 1), {"window": 2}),
    ((2, 7, 2), {"window": 3, "stride": 2}),
    ((2, 5, 6, 2), {"window": 3, "stride": 2, "padding": "SAME"}),
    ((1, 5, 4, 2), {"window": (3, 2), "stride": (1, 2), "padding": UNEVEN}),
    ((2, 6, 2), {"window": 4, "stride": 3, "padding": ((3, 3),)}),
    ((1, 6, 7, 1), {"window": (1, 2), "stride": (2, 3)}),
    ((1, 3, 4, 3, 1), {"window": 2, "stride": 1}),
    ((2, 3, 4, 2), {"window": (3, 4)}),
]
every_window = pytest.mark.parametrize(("shape", "options"), WINDOWS, ids=lambda v: str(v))


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(SEED).standard_normal(shape)


def draw_ties(*shape: int) -> np.ndarray:
    """Draw few different values, −∞ among them, so that nearly every window has ties."""
    return np.random.default_rng(SEED).choice([-np.inf, -1.0, 0.0], shape)


def pulled(layer: Layer, x: Any) -> tuple[Any, Any]:
    """Return ``y``, ``dx`` by the rule and the random ``dy``, after checking that autodiff gives the same."""
    shape = jax.eval_shape(lambda x: layer.apply({}, x), x).shape
    dy = np.random.default_rng(SEED + 1).standard_normal(shape)
    (y, dx), by_autodiff = derivatives(layer, lambda x: layer.apply({}, x), jnp.asarray(x), jnp.asarray(dy))
    np.testing.assert_array_equal(by_autodiff[0], y)
    assert_close(dx, by_autodiff[1])
    return y, (dx, dy)


@partial(jax.jit, static_argnums=(0, 1))
def derivatives(layer: Layer, function: Any, x: jax.Array, dy: jax.Array) -> Any:
    """Return ``(y, dx)`` by the rule of a layer and by autodiff of a function."""
    y, pullback = vjp(layer, {}, x)
    value, autodiff = jax.vjp(function, x)
    return (y, pullback(dy)[1]), (value, autodiff(dy)[0])


@every_window
@pytest.mark.usefixtures("x64")
def test_max_pool_equals_reference(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    for x in (draw(*shape), draw_ties(*shape)):
        y, (dx, dy) = pulled(MaxPool(**options), x)
        np.testing.assert_array_equal(y, reference.MAX_POOL.value(x, **options))
        assert_close(dx, reference.MAX_POOL.derivative(x, dy, **options))


@every_window
@pytest.mark.parametrize("count_padding", [False, True])
@pytest.mark.usefixtures("x64")
def test_avg_pool_equals_reference(shape: tuple[int, ...], options: dict[str, Any], count_padding: bool) -> None:
    options, x = options | {"count_padding": count_padding}, draw(*shape)
    y, (dx, dy) = pulled(AvgPool(**options), x)
    assert_close(y, reference.AVG_POOL.value(x, **options))
    assert_close(dx, reference.AVG_POOL.derivative(x, dy, **options))


@pytest.mark.parametrize("draw", [draw, draw_ties])
@pytest.mark.parametrize("shape", [(2, 4, 2), (2, 3, 4, 2)])
@pytest.mark.usefixtures("x64")
def test_global_pools_are_pools_of_everything(shape: tuple[int, ...], draw: Any) -> None:
    x, everything = draw(*shape), {"window": shape[1:-1]}
    kinds: list[Any] = [(GlobalMaxPool(), reference.MAX_POOL)]
    if np.isfinite(x).all():
        kinds.append((GlobalAvgPool(), reference.AVG_POOL))
    for layer, expected in kinds:
        y, (dx, dy) = pulled(layer, x)
        assert y.shape == (shape[0], shape[-1])
        dy = dy.reshape(shape[0], *(1 for _ in shape[1:-1]), shape[-1])
        np.testing.assert_allclose(y, expected.value(x, **everything).reshape(y.shape), rtol=1e-14)
        assert_close(dx, expected.derivative(x, dy, **everything))


@pytest.mark.parametrize(("shape", "factor"), [((2, 3, 2), 3), ((1, 2, 3, 2), 2), ((1, 2, 1, 2), (1, 4))])
@pytest.mark.usefixtures("x64")
def test_upsampling_equals_reference(shape: tuple[int, ...], factor: Any) -> None:
    x = draw(*shape)
    factors = factor if isinstance(factor, tuple) else (factor,) * (len(shape) - 2)
    y, (dx, dy) = pulled(Upsample(factor), x)
    np.testing.assert_array_equal(y, reference.UPSAMPLE.value(x, factors))
    assert_close(dx, reference.UPSAMPLE.derivative(x, dy, factors))


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.usefixtures("x64")
def test_linear_upsampling_equals_that_of_jax(factor: int) -> None:
    x = draw(2, 4, 5, 3)
    y, (dx, dy) = pulled(Upsample(factor, "linear"), x)

    def resize(x: jax.Array) -> jax.Array:
        return jax.image.resize(x, y.shape, "linear")

    expected, pullback = jax.vjp(resize, jnp.asarray(x))
    assert_close(y, expected)
    assert_close(dx, pullback(jnp.asarray(dy))[0])


def test_linear_upsampling_known_answer() -> None:
    y = Upsample(2, "linear").apply({}, jnp.array([0.0, 4.0]).reshape(1, 2, 1))
    np.testing.assert_array_equal(y.ravel(), [0, 1, 3, 4])


def xla_pool(x: jax.Array, window: Any, stride: Any, padding: Any) -> jax.Array:
    padding = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *stride, 1), padding)


def configurations(count: int) -> list[tuple[tuple[int, ...], Any, Any, Any]]:
    """Draw shapes, windows, strides and paddings that fit together."""
    rng, drawn = np.random.default_rng(SEED), []
    for _ in range(count):
        rank = int(rng.integers(1, 3))
        window = tuple(int(n) for n in rng.integers(1, 5, rank))
        stride = tuple(int(n) for n in rng.integers(1, 5, rank))
        pads = tuple((int(rng.integers(0, n)), int(rng.integers(0, n))) for n in window)
        padding = [pads, "SAME", "VALID"][int(rng.integers(0, 3))]
        spatial = [n + int(rng.integers(0, 6)) for n in window]
        drawn.append(((2, *spatial, 2), window, stride, padding))
    return drawn


@pytest.mark.usefixtures("x64")
def test_max_pool_equals_xla_at_ties_too() -> None:
    """Value and derivative agree for random windows over numbers many of which are equal."""
    rng = np.random.default_rng(SEED)
    for shape, window, stride, padding in configurations(25):
        x = rng.integers(-2, 2, shape).astype(np.float64)
        xla = partial(xla_pool, window=window, stride=stride, padding=padding)
        dy = jnp.asarray(rng.standard_normal(jax.eval_shape(xla, x).shape))
        by_rule, by_xla = derivatives(MaxPool(window, stride, padding), xla, jnp.asarray(x), dy)
        np.testing.assert_array_equal(by_rule[0], by_xla[0])
        assert_close(by_rule[1], by_xla[1])


def test_max_pool_known_answer() -> None:
    x = jnp.array([[1.0, 2, 3, 4], [5, 6, 7, 8]])[None, :, :, None]
    np.testing.assert_array_equal(MaxPool(2).apply({}, x)[0, :, :, 0], [[6, 8]])
    np.testing.assert_array_equal(AvgPool(2).apply({}, x)[0, :, :, 0], [[3.5, 5.5]])


def test_the_first_of_equal_maxima_receives_the_gradient() -> None:
    x = jnp.zeros((1, 4, 4, 1))
    first = np.zeros((4, 4))
    first[::2, ::2] = 1
    by_autodiff = jax.grad(lambda x: MaxPool(2).apply({}, x).sum())(x)
    by_rule = vjp(MaxPool(2), {}, x)[1](jnp.ones((1, 2, 2, 1)))[1]
    for gradient in (by_autodiff, by_rule):
        np.testing.assert_array_equal(gradient[0, :, :, 0], first)


def test_padding_never_wins() -> None:
    """It does not win against −∞ either, which would lose the gradient."""
    x = jnp.full((1, 3, 1), -jnp.inf)
    y, pullback = vjp(MaxPool(3, stride=1, padding="SAME"), {}, x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(pullback(jnp.ones((1, 3, 1)))[1].ravel(), [2, 1, 0])
    np.testing.assert_array_equal(AvgPool(3, 1, "SAME").apply({}, jnp.ones((1, 3, 1))), jnp.ones((1, 3, 1)))


@pytest.mark.parametrize("layer", [MaxPool(2), MaxPool(3, 1, "SAME"), GlobalMaxPool()], ids=repr)
def test_nan_is_not_lost(layer: Layer) -> None:
    """NaN is the maximum wherever it stands in the window; the first of several receives the gradient."""
    for place in np.ndindex(2, 2):
        x = jnp.ones((1, 2, 2, 1)).at[0, *place, 0].set(jnp.nan).at[0, 1, 1, 0].set(jnp.nan)
        y, pullback = vjp(layer, {}, x)
        assert np.isnan(y).all() or isinstance(layer, MaxPool)
        assert np.isnan(y.ravel()[0])
        assert pullback(jnp.ones_like(y))[1][0, *place, 0] >= 1


def test_indices_take_one_byte_and_more_where_needed() -> None:
    x = jnp.asarray(draw(1, 20, 20, 1)).astype(jnp.float32).at[0, 15, 15, 0].set(100)
    for layer, dtype in ((MaxPool(2), jnp.uint8), (MaxPool(15), jnp.uint8), (MaxPool(16), jnp.uint16)):
        assert layer.with_index(x)[1].dtype == dtype
    dx = vjp(MaxPool(16), {}, x)[1](jnp.full((1, 1, 1, 1), 3.0))[1]
    assert dx[0, 15, 15, 0] == 3
    assert dx.sum() == 3


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("layer", [MaxPool(2, 1), AvgPool(3, 2, "SAME"), GlobalMaxPool(), Upsample(2)], ids=repr)
def test_second_derivatives_and_forward_mode(layer: Layer) -> None:
    """The Hessian of Σ y³ is the same by reverse over reverse and forward over reverse, by autodiff and by rule."""
    x = jnp.asarray(draw(1, 3, 3, 1))

    def cubed(layer: Layer) -> Any:
        return lambda x: (layer.apply({}, x) ** 3).sum()

    by_rule = jax.jit(jax.hessian(cubed(as_custom_vjp(layer))))(x)
    assert_close(by_rule, jax.jit(jax.hessian(cubed(layer)))(x))
    assert_close(by_rule, jax.jit(jax.jacrev(jax.grad(cubed(layer))))(x))
    assert float(jnp.abs(by_rule).max()) > 0
    _, slope = jax.jvp(cubed(layer), (x,), (jnp.ones_like(x),))
    assert_close(slope, jax.grad(cubed(layer))(x).sum())


def test_an_empty_batch_is_no_error() -> None:
    for layer in (MaxPool(2), AvgPool(2)):
        assert layer.apply({}, jnp.zeros((0, 4, 4, 3))).shape == (0, 2, 2, 3)


def test_low_precision_means_are_rounded_once() -> None:
    x = jnp.full((1, 16, 16, 1), 1.0, jnp.bfloat16).at[0, 0, 0, 0].set(257)
    assert AvgPool(16).apply({}, x).ravel()[0] == 2  # (257 → 256) + 255 ones; summed in bfloat16, 256 + 1 stays 256


@pytest.mark.parametrize("pool", [MaxPool, AvgPool])
def test_padding_as_of_convolutions(pool: Any) -> None:
    x = jnp.asarray(draw(2, 4, 5, 3), "float32")
    for short, whole in ((1, ((1, 1), (1, 1))), ((1, (0, 2)), ((1, 1), (0, 2)))):
        np.testing.assert_array_equal(pool(3, 1, short).apply({}, x), pool(3, 1, whole).apply({}, x))


def test_lists_become_tuples() -> None:
    layer = MaxPool([2, 3], [1, 2], [[1, 0], 1])
    assert layer == MaxPool((2, 3), (1, 2), ((1, 0), 1))
    assert hash(layer) == hash(MaxPool((2, 3), (1, 2), ((1, 0), 1)))
    assert Upsample([2, np.int64(3)]) == Upsample((2, 3))


IMAGE, SEQUENCE = jnp.ones((2, 4, 5, 3)), jnp.ones((2, 4, 3))
REFUSED = [
    (lambda: MaxPool(0), ValueError, "MaxPool: window is 0; expected an integer of at least 1"),
    (lambda: MaxPool((2, 1.5)), ValueError, "MaxPool: window is 1.5"),
    (lambda: MaxPool(()), ValueError, r"window is \(\)"),
    (lambda: MaxPool(2, stride=0), ValueError, "stride is 0"),
    (
        lambda: AvgPool(2, padding="same"),
        ValueError,
        "AvgPool: padding is 'same'; expected 'VALID', 'SAME', an integer",
    ),
    (lambda: AvgPool(2, padding=((1,), (1, 1))), ValueError, r"padding is \(\(1,\), \(1, 1\)\); expected"),
    (lambda: AvgPool(2, padding=()), ValueError, r"padding is \(\); expected"),
    (lambda: AvgPool(2, padding=((-1, 0),)), ValueError, "padding is"),
    (
        lambda: MaxPool(2).apply({}, jnp.ones((2, 3))),
        ValueError,
        r"MaxPool\(window=2\): x has shape \(2, 3\); expected",
    ),
    (lambda: MaxPool(2).apply({}, jnp.ones((2, 4, 4, 1), int)), TypeError, "x has dtype int32"),
    (
        lambda: MaxPool((2, 2)).apply({}, SEQUENCE),
        ValueError,
        r"window is \(2, 2\) with 2 entries, but there are 1 spatial",
    ),
    (
        lambda: MaxPool(2, stride=(1,)).apply({}, IMAGE),
        ValueError,
        r"stride is \(1,\) with 1 entries, but there are 2 spatial",
    ),
    (lambda: MaxPool(2, padding=((1, 1),)).apply({}, IMAGE), ValueError, "for each of the 2 spatial axes"),
    (
        lambda: MaxPool(5).apply({}, IMAGE),
        ValueError,
        "on axis 1, where a window of 5 does not fit; expected at least 5",
    ),
    (lambda: AvgPool((1, 6)).apply({}, IMAGE), ValueError, "on axis 2, where a window of 6 does not fit"),
    (
        lambda: MaxPool(2, padding=((2, 0), (0, 0))).apply({}, IMAGE),
        ValueError,
        r"padding \(2, 0\) on axis 1 is not less than the window of 2",
    ),
    (lambda: MaxPool(2, 1, "SAME").apply({}, jnp.ones((2, 0, 3))), ValueError, "does not fit"),
    (lambda: GlobalAvgPool().apply({}, jnp.ones((2, 0, 3))), ValueError, r"GlobalAvgPool: x has shape \(2, 0, 3\)"),
    (lambda: GlobalMaxPool().apply({}, jnp.ones((2, 3))), ValueError, r"expected \(N, L, C\) or \(N, H, W, C\)"),
    (lambda: Upsample(0), ValueError, "Upsample: factor is 0"),
    (lambda: Upsample(2, "cubic"), ValueError, "method is 'cubic'; expected 'nearest' or 'linear'"),
    (lambda: Upsample((2, 2)).apply({}, SEQUENCE), ValueError, r"factor is \(2, 2\) with 2 entries, but there are 1"),
    (lambda: Upsample(2).apply({}, jnp.ones((2, 3))), ValueError, r"Upsample\(factor=2\): x has shape \(2, 3\)"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_scan_over_pooling() -> None:
    """As in a compiled epoch: one program, whose every step is the function itself."""
    layer, xs = sequential(MaxPool(2), AvgPool(3, 2, "SAME")), jnp.asarray(draw(3, 2, 8, 8, 2)).astype(jnp.float32)

    def gradient(x: jax.Array) -> jax.Array:
        return jax.grad(lambda x: (layer.apply(({}, {}), x) ** 2).sum())(x)

    _, scanned = jax.jit(lambda xs: lax.scan(lambda carry, x: (carry, gradient(x)), 0, xs))(xs)
    assert_identical(scanned, jnp.stack([jax.jit(gradient)(x) for x in xs]))
