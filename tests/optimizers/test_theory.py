"""What theory says of single algorithms: equivalences, rates of convergence, digits that float32 must keep."""

from fractions import Fraction
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import apply_updates
from fnnet.optimizers import adam, adamw, chain, decay_weights, momentum, nesterov, orthogonalized, radam, rmsprop, sgd
from tests.cases.optimizers import gradients_for, run, tree
from tests.compare import assert_close

CURVATURES = np.array([1.0, 7.0, 100.0])  # of a quadratic ½ Σ λ θ²: κ = 100
KAPPA = 100.0


def descent(optimizer: Any, steps: int) -> Any:
    """The iterates on the quadratic, from ones."""

    def step(carry: Any, _: None) -> Any:
        theta, state = carry
        updates, state = optimizer.update(jnp.asarray(CURVATURES) * theta, state, theta)
        theta = apply_updates(theta, updates)
        return (theta, state), theta

    start = jnp.ones(3)
    return np.asarray(jax.lax.scan(step, (start, optimizer.init(start)), None, length=steps)[1])


@pytest.mark.usefixtures("x64")
def test_gradient_descent_contracts_by_its_best_factor() -> None:
    """(κ − 1) / (κ + 1) a step with α = 2 / (λ_min + λ_max), in the coordinates of both ends."""
    path = descent(sgd(2 / (1 + KAPPA)), 50)
    ratios = np.abs(path[1:, [0, 2]] / path[:-1, [0, 2]])
    np.testing.assert_allclose(ratios, (KAPPA - 1) / (KAPPA + 1), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_heavy_ball_contracts_by_the_root() -> None:
    """(√κ − 1) / (√κ + 1) a step, with Polyak's α = 4 / (√λ_min + √λ_max)² and β = that factor squared.

    The zeros are double at both ends, so the error is a line in t times the power: measured between t and 2t.
    """
    root = np.sqrt(KAPPA)
    factor = (root - 1) / (root + 1)
    path = np.abs(descent(momentum(4 / (1 + root) ** 2, factor**2, averaged=False), 120))
    steps = np.arange(1, 121)
    scaled = path[:, 0] / factor**steps
    np.testing.assert_allclose(np.diff(scaled[40:], 2) / scaled[40:-2], 0, atol=1e-6)
    assert scaled[119] / scaled[59] == pytest.approx(2, rel=0.05)
    assert path[119].max() ** (1 / 120) < 0.87 < (KAPPA - 1) / (KAPPA + 1)


@pytest.mark.usefixtures("x64")
def test_nesterov_is_his_sequence_at_the_point_ahead() -> None:
    """φ₊ = θ − α ∇f(θ),  θ₊ = φ₊ + β (φ₊ − φ): the parameters are θ."""
    alpha, beta = 0.009, 0.8
    phi = theta = np.ones(3)
    expected = []
    for _ in range(30):
        following = theta - alpha * CURVATURES * theta
        theta, phi = following + beta * (following - phi), following
        expected.append(theta)
    assert_close(descent(nesterov(alpha, beta), 30), np.stack(expected))


@pytest.mark.usefixtures("x64")
def test_heavy_ball_is_the_average_with_another_rate() -> None:
    params = tree(jnp.float64)
    gradients = gradients_for(params, 10)
    heavy = jax.jit(partial(run, momentum(0.1 * (1 - 0.9), averaged=False)))(params, gradients)
    assert_close(heavy, jax.jit(partial(run, momentum(0.1)))(params, gradients), 1e-13)


@pytest.mark.usefixtures("x64")
def test_adamw_is_adam_whose_decay_stands_after_it() -> None:
    """Before it, the decay would pass through the moments, as an L2 penalty does."""
    params = tree(jnp.float64)
    gradients = gradients_for(params, 10)
    decoupled = jax.jit(partial(run, adamw(0.1, weight_decay=0.3)))(params, gradients)
    chained = jax.jit(partial(run, chain(adam(0.1), decay_weights(0.1 * 0.3))))(params, gradients)
    assert_close(decoupled, chained, 1e-13)


def test_bias_correction_keeps_its_digits_in_float32() -> None:
    """1 − 0.999 rounded to float32 is wrong in the fifth digit; the first Adam step is then not quite α."""
    for optimizer in (adam(1.0, epsilon=0.0), adam(1.0, beta2=lambda step: 0.999, epsilon=0.0)):
        updates, _ = optimizer.update({"w": jnp.ones(1)}, optimizer.init({"w": jnp.ones(1)}))
        assert float(updates["w"][0]) == pytest.approx(-1, abs=3e-7)


@pytest.mark.parametrize("beta2", [0.99, 0.999, 0.9999, 0.99999])
def test_radam_rectifies_from_the_right_step_on_in_float32(beta2: float) -> None:
    """ρ_t is a small difference of two lengths of about 2 / (1 − β₂). With equal gradients the step is α r."""
    optimizer = radam(1.0, beta2=beta2, epsilon=0.0)
    params = {"w": jnp.ones(1)}
    state, found = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for _ in range(200):
        updates, state = update({"w": jnp.full(1, 4.0)}, state)
        found.append(-float(updates["w"][0]))
    longest, expected = 2 / (1 - Fraction(beta2)) - 1, []
    for t in range(1, 201):
        power = Fraction(beta2) ** t
        length = longest - 2 * t * power / (1 - power)
        rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        expected.append(float(rectified) ** 0.5 if length > 5 else 4.0)
    assert np.flatnonzero(np.array(found) > 3.9).tolist() == np.flatnonzero(np.array(expected) == 4.0).tolist()
    np.testing.assert_allclose(found, expected, rtol=5e-6)


def test_centered_rmsprop_with_equal_gradients_is_finite() -> None:
    """v − m² is then 0 but for its rounding, which is negative for some of them."""
    gradient = {"w": jnp.asarray(np.random.default_rng(5).standard_normal(500), jnp.float32)}
    gradients = jax.tree.map(lambda g: jnp.tile(g, (200, 1)), gradient)
    path = jax.jit(partial(run, rmsprop(0.1, centered=True, epsilon=1e-3)))({"w": jnp.zeros(500)}, gradients)
    assert bool(jnp.isfinite(path["w"]).all())


@pytest.mark.parametrize("scale", [1e-25, 1e-8, 1.0, 1e25])
@pytest.mark.parametrize("shape", [(4, 4), (3, 8), (8, 3)], ids=str)
def test_orthogonalized_brings_singular_values_near_one(shape: tuple[int, int], scale: float) -> None:
    """Whatever the size of the matrix; its singular vectors stay."""
    matrix = np.random.default_rng(3).standard_normal(shape)
    found = np.asarray(orthogonalized(jnp.asarray(scale * matrix, jnp.float32)))
    values = np.linalg.svd(found, compute_uv=False)
    assert values.min() > 0.6
    assert values.max() < 1.25
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ found @ v.T
    np.testing.assert_allclose(inner - np.diag(np.diag(inner)), 0, atol=1e-5)
    assert bool((orthogonalized(jnp.zeros(shape)) == 0).all())
