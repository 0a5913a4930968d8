"""Soft thresholding and the proximal step are compared with loops, closed forms and scikit-learn."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Optimizer, apply_updates, chain, penalties
from fnnet.optimizers import momentum, nesterov, proximal_l1, sgd, soft_threshold
from tests.cases import SEED, network_params
from tests.compare import assert_close, assert_identical


def shrunk(x: float, threshold: float) -> float:
    return (abs(x) - threshold) * (1 if x > 0 else -1) if abs(x) > threshold else 0.0


@pytest.mark.usefixtures("x64")
def test_soft_threshold_equals_the_loop() -> None:
    x = np.random.default_rng(SEED).standard_normal((4, 5))
    expected = [[shrunk(v, 0.7) for v in row] for row in x]
    result = np.asarray(soft_threshold(jnp.asarray(x), 0.7))
    np.testing.assert_allclose(result, expected, rtol=1e-15)
    assert 0 < (result == 0).sum() < x.size


@pytest.mark.usefixtures("x64")
def test_soft_threshold_is_the_argmin() -> None:
    """It minimizes ``½ (y − x)² + τ |y|``, which is compared with the best point of a fine grid."""
    y = np.linspace(-3, 3, 60001)
    for x in (-2.0, -0.7, -0.3, 0.0, 0.2, 0.8, 2.5):
        best = y[np.argmin(0.5 * (y - x) ** 2 + 0.7 * np.abs(y))]
        assert abs(float(soft_threshold(jnp.asarray(x), 0.7)) - best) <= 1e-4


def test_soft_threshold_at_the_edges() -> None:
    x = jnp.array([-1.0, 1.0, -0.0, -0.5, jnp.nan, jnp.inf, -jnp.inf, 3e38])
    result = np.asarray(soft_threshold(x, 1.0))
    np.testing.assert_array_equal(result, [0, 0, 0, 0, np.nan, np.inf, -np.inf, np.float32(3e38)])
    assert not np.signbit(result[:4]).any()
    np.testing.assert_array_equal(soft_threshold(x, 0.0), x)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("threshold", [0.5, np.float64(0.5), np.float32(0.5)], ids=lambda value: type(value).__name__)
def test_soft_threshold_keeps_the_dtype(dtype: str, threshold: Any) -> None:
    assert soft_threshold(jnp.ones(3, dtype), threshold).dtype == jnp.dtype(dtype)


def lasso_problem() -> tuple[jax.Array, jax.Array]:
    generator = np.random.default_rng(SEED)
    a = generator.standard_normal((40, 12))
    w = np.where(np.arange(12) < 4, generator.standard_normal(12), 0)
    return jnp.asarray(a), jnp.asarray(a @ w + 0.3 * generator.standard_normal(40))


def path(optimizer: Optimizer, gradient: Callable[[Any], Any], params: Any, steps: int) -> Any:
    """Return the parameters after every step."""

    def step(carry: Any, _: Any) -> Any:
        params, state = carry
        updates, state = optimizer.update(gradient(params), state, params)
        params = apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[1]


@pytest.mark.usefixtures("x64")
def test_fifty_steps_of_ista_equal_the_loop() -> None:
    a, b = lasso_problem()
    rate, strength = 0.2, 0.1
    optimizer = chain(sgd(rate), proximal_l1(strength, rate, bool))
    found = path(optimizer, least_squares_gradient(a, b), {"w": jnp.ones(12)}, 50)

    w, matrix, target = np.ones(12), np.asarray(a), np.asarray(b)
    for t in range(50):
        residual = [sum(matrix[n, i] * w[i] for i in range(12)) - target[n] for n in range(40)]
        gradient = [sum(matrix[n, i] * residual[n] for n in range(40)) / 40 for i in range(12)]
        w = np.array([shrunk(w[i] - rate * gradient[i], rate * strength) for i in range(12)])
        np.testing.assert_allclose(found["w"][t], w, rtol=1e-12, atol=1e-14)


def least_squares_gradient(a: jax.Array, b: jax.Array) -> Callable[[Any], Any]:
    return lambda params: {"w": a.T @ (a @ params["w"] - b) / len(b)}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "optimizer",
    [
        chain(sgd(0.2), proximal_l1(0.1, 0.2, bool)),
        chain(momentum(0.2, 0.5), proximal_l1(0.1, 0.2, bool)),
        chain(momentum(0.1, 0.5, averaged=False), proximal_l1(0.1, 0.2, bool)),
        chain(nesterov(0.1, 0.5), proximal_l1(0.1, 0.2, bool)),
    ],
    ids=["sgd", "momentum", "heavy ball", "nesterov"],
)
def test_descends_to_the_lasso_of_scikit_learn(optimizer: Optimizer) -> None:
    """Each algorithm has the rate that the docstring states; the solutions have the same zeros."""
    from sklearn.linear_model import Lasso

    a, b = lasso_problem()
    expected = (
        Lasso(alpha=0.1, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(np.asarray(a), np.asarray(b)).coef_
    )
    found = np.asarray(path(optimizer, least_squares_gradient(a, b), {"w": jnp.zeros(12)}, 500)["w"][-1])
    np.testing.assert_allclose(found, expected, atol=1e-8)
    np.testing.assert_array_equal(found == 0, expected == 0)
    assert 4 <= (found == 0).sum() < 12


@pytest.mark.usefixtures("x64")
def test_descent_along_the_subgradient_leaves_no_zeros() -> None:
    """The steps go back and forth over 0: the weights are small, and none is 0."""
    a, b = lasso_problem()
    smooth, penalty = least_squares_gradient(a, b), jax.grad(penalties.l1(0.1, bool))

    def gradient(params: Any) -> Any:
        return jax.tree.map(jnp.add, smooth(params), penalty(params))

    proximal = path(chain(sgd(0.2), proximal_l1(0.1, 0.2, bool)), smooth, {"w": jnp.ones(12)}, 500)["w"][-1]
    hovering = path(sgd(0.2), gradient, {"w": jnp.ones(12)}, 500)["w"][-1]
    assert int((hovering == 0).sum()) == 0
    np.testing.assert_allclose(hovering, proximal, atol=0.2 * 0.1 * 2)


@pytest.mark.usefixtures("x64")
def test_elastic_net_on_an_orthonormal_design() -> None:
    """With ``AᵀA = N I``, the minimum is ``S_λ₁(Aᵀb / N) / (1 + λ₂)``."""
    a = jnp.asarray(np.linalg.qr(np.random.default_rng(SEED).standard_normal((40, 12)))[0] * np.sqrt(40))
    b = lasso_problem()[1]
    smooth, ridge = least_squares_gradient(a, b), jax.grad(penalties.l2(0.5, bool))
    found = path(
        chain(sgd(0.5), proximal_l1(0.1, 0.5, bool)),
        lambda params: jax.tree.map(jnp.add, smooth(params), ridge(params)),
        {"w": jnp.zeros(12)},
        200,
    )
    centre = np.asarray(a).T @ np.asarray(b) / 40
    np.testing.assert_allclose(found["w"][-1], [shrunk(v, 0.1) / 1.5 for v in centre], atol=1e-12)


def test_strength_and_rate_may_be_schedules() -> None:
    strength, rate = lambda step: 0.1 * (step.astype("float32") + 1), lambda step: 2.0 - step.astype("float32")
    optimizer = proximal_l1(strength, rate, bool)
    params, nothing = {"w": jnp.ones(1)}, {"w": jnp.zeros(1)}
    first, state = optimizer.update(nothing, optimizer.init(params), params)
    second, _ = optimizer.update(nothing, state, params)
    np.testing.assert_allclose([first["w"][0], second["w"][0]], [-0.2, -0.2], rtol=1e-6)


def test_strengths_under_vmap() -> None:
    params, grads = {"w": jnp.linspace(-1, 1, 9)}, {"w": jnp.zeros(9)}

    def zeros(strength: jax.Array) -> jax.Array:
        optimizer = chain(sgd(0.5), proximal_l1(strength, 0.5, bool))
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        return (apply_updates(params, updates)["w"] == 0).sum()

    assert jax.jit(jax.vmap(zeros))(jnp.array([0.0, 0.4, 1.0, 4.0])).tolist() == [1, 1, 5, 9]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_become_exactly_zero_and_biases_do_not(dtype: str) -> None:
    params = network_params(dtype)
    grads = jax.tree.map(lambda p: 0.1 * jnp.ones_like(p), params)
    optimizer = chain(sgd(0.1), proximal_l1(1e3, 0.1))
    updates, state = optimizer.update(grads, optimizer.init(params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
    after = apply_updates(params, updates)
    assert_identical(after[0]["w"], jnp.zeros_like(params[0]["w"]))
    plain, _ = sgd(0.1).update(grads, sgd(0.1).init(params), params)
    assert_close(after[0]["b"], apply_updates(params, plain)[0]["b"])
    assert int(state[1].step) == 1


W = jnp.ones(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: soft_threshold(jnp.ones(1), -0.1), r"optimizers.soft_threshold: threshold is -0.1; expected"),
        (lambda: proximal_l1(-1.0, 0.1), r"optimizers.proximal_l1: strength is -1.0; expected a number in \[0, inf\)"),
        (lambda: proximal_l1(1.0, -0.1), r"optimizers.proximal_l1: rate is -0.1"),
        (lambda: proximal_l1(1.0, 0.1).init({"b": jnp.ones(1)}), r"optimizers.proximal_l1: where= chooses none"),
        (
            lambda: proximal_l1(1.0, 0.1).update(
                {"w": jnp.ones((1, 1))}, proximal_l1(1.0, 0.1).init({"w": jnp.ones((1, 1))})
            ),
            r"optimizers.proximal_l1: params is None",
        ),
    ],
)
def test_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
