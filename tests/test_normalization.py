"""Normalization and affine layers: equality with loops, float32 with a large mean, and errors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Affine, BatchNorm, Cost, Dense, GroupNorm, LayerNorm, initializers, losses, penalties, sequential
from fnnet.backprop import as_custom_vjp, vjp
from fnnet.types import Layer
from tests import reference
from tests.cases import SEED, random_params
from tests.compare import assert_close

NORMALIZATIONS: list[tuple[Layer, tuple[int, ...], Any]] = [
    (LayerNorm(), (3, 4), reference.layer_groups),
    (LayerNorm(0.1), (2, 3, 4), reference.layer_groups),
    (BatchNorm(), (5, 2), reference.batch_groups),
    (BatchNorm(0.1), (2, 3, 2, 2), reference.batch_groups),
    (GroupNorm(2), (2, 3, 2, 4), lambda shape: reference.group_groups(shape, 2)),
    (GroupNorm(4), (2, 3, 4), lambda shape: reference.group_groups(shape, 4)),
    (GroupNorm(1), (3, 4), lambda shape: reference.group_groups(shape, 1)),
]
every_normalization = pytest.mark.parametrize(
    ("layer", "shape", "groups"), NORMALIZATIONS, ids=[f"{layer} of {shape}" for layer, shape, _ in NORMALIZATIONS]
)
ALL = [LayerNorm(), GroupNorm(2), BatchNorm()]


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(SEED).standard_normal(shape)


@every_normalization
@pytest.mark.usefixtures("x64")
def test_rule_equals_reference(layer: Any, shape: tuple[int, ...], groups: Any) -> None:
    x, dy = draw(*shape), np.random.default_rng(SEED + 1).standard_normal(shape)
    params = random_params(layer, jnp.asarray(x))
    numbers = jax.tree.map(np.asarray, params)
    y, pullback = vjp(layer, params, jnp.asarray(x))
    assert_close(y, reference.NORMALIZATION.value(numbers, x, groups(shape), layer.epsilon))
    expected = reference.NORMALIZATION.derivative(numbers, x, dy, groups(shape), layer.epsilon)
    assert_close(pullback(jnp.asarray(dy)), expected)


@every_normalization
def test_output_has_mean_zero_and_variance_one(layer: Any, shape: tuple[int, ...], groups: Any) -> None:
    """It holds at the start, where scale is one and shift zero, apart from the effect of epsilon."""
    x = jnp.asarray(draw(*shape), jnp.float32)
    y = np.asarray(layer.apply(layer.init(jax.random.key(0), x), x))
    for places in groups(shape):
        values, before = (np.array([a[place] for place in places]) for a in (y, np.asarray(x)))
        assert abs(values.mean()) < 1e-6
        np.testing.assert_allclose(values.var(), before.var() / (before.var() + layer.epsilon), rtol=1e-5)


@pytest.mark.parametrize("mean", [0.0, 1e4, -1e6])
@pytest.mark.parametrize("layer", ALL, ids=repr)
def test_a_large_mean_costs_no_digits_in_float32(layer: Any, mean: float) -> None:
    """Value and derivative are close to float64 at the same inputs, with a variance of 1."""
    shape = (4, 64, 64, 2) if isinstance(layer, BatchNorm | GroupNorm) else (8, 20000)
    x = jnp.asarray(draw(*shape) + mean, jnp.float32)
    dy = jnp.asarray(np.random.default_rng(SEED + 1).standard_normal(shape), jnp.float32)

    @jax.jit
    def run(x: jax.Array, dy: jax.Array) -> Any:
        params = layer.init(jax.random.key(0), x)
        y, pullback = vjp(layer, params, x)
        return y, pullback(dy), jax.vjp(lambda p, x: layer.apply(p, x), params, x)[1](dy)

    in_single = run(x, dy)
    with jax.enable_x64(True):
        in_double = run(x.astype(jnp.float64), dy.astype(jnp.float64))
    assert_close(in_single, in_double, 2e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4, 1e7, -1e12, 1e30])
@pytest.mark.parametrize("layer", ALL, ids=repr)
def test_constant_features_give_shift_and_finite_gradients(layer: Any, constant: float) -> None:
    x = jnp.full((7, 30, 4), constant)
    params = random_params(layer, x)
    y, pullback = vjp(layer, params, x)
    assert np.isfinite(y).all()
    if abs(constant) <= 1e7:
        np.testing.assert_allclose(y, jnp.broadcast_to(params["shift"], y.shape), atol=1e-4)
    for leaf in jax.tree.leaves(pullback(jnp.ones_like(y))):
        assert np.isfinite(leaf).all()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("layer", ALL, ids=repr)
def test_gradient_is_orthogonal_to_what_is_taken_away(layer: Any) -> None:
    """With a small epsilon, neither a shift nor a scaling of numbers normalized together changes y."""
    layer = type(layer)(**{"epsilon": 1e-15} | ({"groups": 2} if isinstance(layer, GroupNorm) else {}))
    x = jnp.asarray(draw(3, 5, 4))
    params = random_params(layer, x)
    _, pullback = vjp(layer, params, x)
    dx = pullback(jnp.asarray(np.random.default_rng(SEED + 1).standard_normal(x.shape)))[1]
    groups = layer.groups_of(x.shape)
    dx, x = dx.reshape(groups.shape), x.reshape(groups.shape)
    assert float(jnp.abs(dx).max()) > 0.1
    assert float(jnp.abs(dx.sum(groups.axes)).max()) < 1e-12
    assert float(jnp.abs((dx * x).sum(groups.axes)).max()) < 1e-10


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("layer", [*ALL, Affine()], ids=repr)
def test_hessian_through_custom_vjp(layer: Any) -> None:
    x, target = jnp.asarray(draw(3, 2, 4)), jnp.zeros((3, 2, 4))
    params = random_params(layer, x)

    @jax.jit
    def hessians(params: Any, x: jax.Array) -> Any:
        return [
            jax.hessian(lambda p, x: Cost(inner, losses.log_cosh)(p, (x, target)), argnums=(0, 1))(params, x)  # noqa: B023
            for inner in (as_custom_vjp(layer), layer)
        ]

    by_rule, by_autodiff = hessians(params, x)
    assert_close(by_rule, by_autodiff)
    assert float(jnp.abs(by_rule[1][1]).max()) > 1e-3


def test_second_derivative_at_constant_features_is_that_of_the_limit() -> None:
    """x = (0, 0) becomes (t, 0): σ² = t²/4 and x̂ = ±t / √(t² + 4ε), whose slope at 0 is 1 / √(4ε)."""
    layer = LayerNorm(epsilon=0.25)

    def first(t: jax.Array) -> jax.Array:
        x = jnp.stack([t, jnp.zeros(())])
        return layer.apply(layer.init(jax.random.key(0), x), x)[0]

    assert float(jax.grad(first)(jnp.zeros(()))) == 1
    third = jax.grad(jax.grad(jax.grad(first)))(jnp.zeros(()))  # of t / √(t² + 1) = t − t³/2 + ...
    assert float(third) == pytest.approx(-3)


def test_group_norm_is_layer_norm_and_instance_norm_at_its_ends() -> None:
    x = jnp.asarray(draw(3, 4, 6), jnp.float32)
    whole = GroupNorm(1).apply(GroupNorm(1).init(jax.random.key(0), x), x)
    flat = x.reshape(3, 24)
    assert_close(whole.reshape(3, 24), LayerNorm().apply(LayerNorm().init(jax.random.key(0), flat), flat), 1e-6)
    single = GroupNorm(6).apply(GroupNorm(6).init(jax.random.key(0), x), x)
    one = x[1]
    assert_close(single[1], BatchNorm().apply(BatchNorm().init(jax.random.key(0), one), one), 1e-6)


def test_batch_norm_is_the_same_function_in_training() -> None:
    layer, x = BatchNorm(), jnp.asarray(draw(5, 3), jnp.float32)
    params = random_params(layer, x)
    np.testing.assert_array_equal(layer.apply(params, x, train=True), layer.apply(params, x))


def test_penalties_leave_scale_and_shift_alone() -> None:
    params = random_params(sequential(Dense(2), BatchNorm()), jnp.ones((5, 3)))
    assert float(penalties.l2(1.0)(params)) == pytest.approx(0.5 * float((params[0]["w"] ** 2).sum()))


def test_scale_can_start_elsewhere() -> None:
    """With zero a residual branch starts as the zero function."""
    params = BatchNorm(scale_init=initializers.zeros).init(jax.random.key(0), jnp.ones((5, 3)))
    np.testing.assert_array_equal(params["scale"], np.zeros(3))


X = jnp.ones((4, 6))
PARAMS = {"scale": jnp.ones(6), "shift": jnp.zeros(6)}
REFUSED = [
    (lambda: LayerNorm(0.0), ValueError, "LayerNorm: epsilon is 0.0; expected a number above 0"),
    (lambda: BatchNorm(-1.0), ValueError, "BatchNorm: epsilon is -1.0"),
    (lambda: GroupNorm(2, float("nan")), ValueError, "GroupNorm: epsilon is nan"),
    (lambda: GroupNorm(0), ValueError, "GroupNorm: groups is 0"),
    (
        lambda: GroupNorm(4).init(jax.random.key(0), X),
        ValueError,
        r"x has shape \(4, 6\); .* multiple of the 4",
    ),
    (lambda: GroupNorm(1).apply(PARAMS, jnp.ones(6)), ValueError, r"GroupNorm\(groups=1\): x has shape \(6,\)"),
    (lambda: GroupNorm(6).apply(PARAMS, X), ValueError, "x has 1 numbers in each group .* at least 2"),
    (
        lambda: BatchNorm().apply(PARAMS, X[:1]),
        ValueError,
        "for inference on single examples use fnnet.fold",
    ),
    (lambda: BatchNorm().apply(PARAMS, X[:0]), ValueError, "x has 0 numbers"),
    (lambda: BatchNorm().apply(PARAMS, jnp.ones((4, 0, 6))), ValueError, "x has 0 numbers"),
    (
        lambda: LayerNorm().init(jax.random.key(0), jnp.ones((4, 0))),
        ValueError,
        "expected its features on the last",
    ),
    (lambda: LayerNorm().init(jax.random.key(0), jnp.ones((4, 2), int)), TypeError, "x has dtype int32"),
    (
        lambda: BatchNorm().apply(PARAMS, jnp.ones((4, 5))),
        ValueError,
        r"x has shape \(4, 5\) but scale has",
    ),
    (lambda: Affine().apply(PARAMS, jnp.ones((4, 5))), ValueError, r"Affine\(\): x has shape \(4, 5\) but scale"),
    (
        lambda: LayerNorm().apply(PARAMS, X.astype(jnp.bfloat16)),
        TypeError,
        "x has dtype bfloat16 but scale has",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
