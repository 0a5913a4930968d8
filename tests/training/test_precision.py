"""Mixed precision: what is rounded, what is not, and the scale of float16's gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, LowPrecision, TrainState, backprop, fit, losses, penalties, relu, sequential, train_step
from fnnet.optimizers import accumulate, adam, dynamic_loss_scale, sgd
from fnnet.optimizers.loss_scale import loss_scale
from tests.cases import random_params
from tests.compare import assert_identical
from tests.training.problems import DATA, LABELS, PARAMS, X, key

ENGINES = pytest.mark.parametrize("engine", [jax.value_and_grad, backprop.value_and_grad], ids=["autodiff", "by hand"])
MODEL = sequential(Dense(8), relu, Dense(3))
EXACT = Cost(MODEL, losses.softmax_cross_entropy, penalties.l2(0.1))


def cost(dtype: str) -> Cost:
    return Cost(LowPrecision(MODEL, dtype), EXACT.loss, EXACT.penalty)


@ENGINES
@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 2**-6), ("float16", 2**-9)])
def test_close_to_float32_and_in_float32(dtype: str, tolerance: float, engine: Any) -> None:
    params = random_params(MODEL, X)
    value, grads = engine(cost(dtype))(params, DATA)
    expected_value, expected = engine(EXACT)(params, DATA)
    assert value.dtype == jnp.float32
    assert 0 < abs(float(value - expected_value)) < tolerance * float(expected_value)
    for g, e in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        assert g.dtype == jnp.float32
        assert 0 < float(jnp.linalg.norm(g - e)) < 2 * tolerance * float(jnp.linalg.norm(e))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_by_hand_and_by_autodiff_round_alike(dtype: str) -> None:
    params = random_params(MODEL, X)
    hand, auto = (
        engine(cost(dtype))(params, DATA, loss_scale=1024.0)[1]
        for engine in (backprop.value_and_grad, jax.value_and_grad)
    )
    for h, a in zip(jax.tree.leaves(hand), jax.tree.leaves(auto), strict=True):
        assert float(jnp.abs(h - a).max()) <= float(jnp.finfo(dtype).eps) * 2 * float(jnp.abs(a).max())


def test_what_is_computed_in_it() -> None:
    """The very numbers: operands and result rounded to bfloat16."""
    y = LowPrecision(Dense(3)).apply(PARAMS, X)
    exact = np.asarray(X.astype("bfloat16"), float) @ np.asarray(PARAMS["w"].astype("bfloat16"), float)
    assert_identical(y.astype("bfloat16").astype("float32"), y)
    assert np.abs(np.asarray(y, float) - exact).max() <= 2.0**-8 * np.abs(exact).max()


@ENGINES
def test_a_scale_saves_small_gradients_from_rounding_to_zero(engine: Any) -> None:
    """A loss of 1e-8: its gradients are below what float16 has."""

    tiny = Cost(LowPrecision(Dense(3), "float16"), tiny_loss)
    expected = jax.grad(Cost(Dense(3), tiny_loss))(PARAMS, DATA)
    if engine is backprop.value_and_grad:
        backprop.LOSS_GRADIENTS[tiny_loss] = lambda z, y: (
            1e-8 * backprop.LOSS_GRADIENTS[losses.softmax_cross_entropy](z, y)
        )
    try:
        assert not engine(tiny)(PARAMS, DATA)[1]["w"].any()
        scaled = engine(tiny)(PARAMS, DATA, loss_scale=2.0**20)[1]["w"]
        np.testing.assert_allclose(scaled / 2.0**20, expected["w"], rtol=2e-2, atol=1e-12)
    finally:
        backprop.LOSS_GRADIENTS.pop(tiny_loss, None)


@ENGINES
def test_inputs_of_float16(engine: Any) -> None:
    """The loss is computed in float32, and so its gradient 5e-10, which the scale lifts into what float16 has."""
    x, cost = X.astype("float16"), Cost(LowPrecision(Dense(3), "float16"), tiny_mean)
    if engine is backprop.value_and_grad:
        backprop.LOSS_GRADIENTS[tiny_mean] = lambda z, y: jnp.full_like(z, 5e-9)
    try:
        value, grads = engine(cost)(PARAMS, (x, LABELS), loss_scale=2.0**20)
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(grads["b"] / 2.0**20, 5e-9, rtol=2e-2)
        y, pullback = backprop.vjp(cost.model, PARAMS, x)
        assert (y.dtype, pullback(y)[1].dtype) == (jnp.float32, jnp.float16)
    finally:
        backprop.LOSS_GRADIENTS.pop(tiny_mean, None)


def tiny_mean(z: jax.Array, y: jax.Array) -> jax.Array:
    return 5e-9 * z.sum(-1)


def tiny_loss(z: jax.Array, y: jax.Array) -> jax.Array:
    return 1e-8 * losses.softmax_cross_entropy(z, y)


@ENGINES
def test_an_overflowing_start_is_survived(engine: Any) -> None:
    """Gradients times 2³⁰ are infinite in float16: steps are skipped and the scale halved until they are not."""
    optimizer = dynamic_loss_scale(sgd(0.5), initial=2.0**30, period=50)
    params = random_params(MODEL, X)
    state, history = fit(
        cost("float16"), optimizer, params, DATA, key=key(), epochs=40, batch_size=5, value_and_grad=engine
    )
    scale = state.opt_state
    assert int(scale.skipped) > 5
    assert float(scale.scale) < 2.0**30
    assert np.isfinite(history["cost"]).all()
    plain = fit(EXACT, sgd(0.5), params, DATA, key=key(), epochs=40, batch_size=5).history["cost"][-1]
    assert history["cost"][-1] == pytest.approx(plain, rel=0.1)


def test_the_scale_step_by_step() -> None:
    """Against the rule written out: halved when a gradient is not finite, doubled after three finite steps."""
    optimizer = dynamic_loss_scale(sgd(1.0), initial=8.0, period=3)
    params = {"w": jnp.ones(2)}
    state = optimizer.init(params)
    scale, good, expected = 8.0, 0, []
    gradients = [1, 1, np.inf, 1, 1, 1, np.nan, np.nan, *[1] * 9]
    for g in gradients:
        updates, state = jax.jit(optimizer.update)({"w": jnp.array([1.0, g])}, state, params)
        if np.isfinite(g):
            good += 1
            if good == 3:
                scale, good = 2 * scale, 0
        else:
            scale, good = scale / 2, 0
        expected.append(scale)
        assert float(state.scale) == scale
        assert updates["w"].tolist() == ([-1, -g] if np.isfinite(g) else [0, 0])
    assert int(state.skipped) == 3
    assert max(expected) > 8 > min(expected)


def test_found_wherever_it_stands_and_used() -> None:
    optimizer = accumulate(dynamic_loss_scale(adam(0.1), initial=256.0), 2)
    params = random_params(MODEL, X)
    state = TrainState.create(params, optimizer, key())
    assert float(loss_scale(state.opt_state)) == 256
    assert loss_scale(adam(0.1).init(params)) is None
    state, _ = jax.jit(train_step(cost("float16"), optimizer))(state, DATA)
    given = backprop.value_and_grad(cost("float16"))(params, DATA, loss_scale=256.0)[1]
    np.testing.assert_allclose(state.opt_state.mean[0]["w"], given[0]["w"] / 256, rtol=1e-2, atol=1e-4)
    twice = dynamic_loss_scale(dynamic_loss_scale(sgd(0.1)))
    with pytest.raises(ValueError, match="contains dynamic_loss_scale 2 times"):
        loss_scale((twice.init(params), twice.init(params)))


def test_configuration() -> None:
    assert LowPrecision(MODEL, jnp.bfloat16) == LowPrecision(MODEL, "bfloat16") == LowPrecision(MODEL)
    assert hash(LowPrecision(MODEL)) == hash(LowPrecision(MODEL, jnp.bfloat16))
    assert repr(LowPrecision(Dense(3), "float16")) == "LowPrecision(layer=Dense(features=3), dtype='float16')"
    assert_identical(LowPrecision(MODEL).init(key(), X), MODEL.init(key(), X))
    with pytest.raises(ValueError, match="LowPrecision: dtype is int32"):
        LowPrecision(MODEL, "int32")
    assert LABELS.dtype == jnp.int32
