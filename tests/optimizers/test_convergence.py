"""The whole-batch optimizers converge as fast as theory says."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet.optimizers import conjugate_gradient, lbfgs, newton, sgd
from tests.optimizers.problems import Problem, lengths, logistic, quadratic, rosenbrock, run

pytestmark = pytest.mark.usefixtures("x64")


def test_newton_solves_a_quadratic_in_one_step() -> None:
    problem = quadratic([1.0, 10.0, 1e4])
    assert np.abs(run(newton(problem.objective), problem, 1)[1]).max() < 1e-11


def test_newton_converges_quadratically() -> None:
    """Near the solution, every step squares the error, up to a constant."""
    problem = logistic()._replace(start=np.zeros(4))
    path = run(newton(problem.objective), problem, 12)
    error = np.linalg.norm(path - path[-1], axis=1)
    near = [k for k in range(11) if 1e-7 < error[k] < 0.3]
    assert len(near) >= 2
    assert all(error[k + 1] < error[k] ** 2 for k in near)


def test_conjugate_gradients_solve_a_quadratic_in_n_steps() -> None:
    problem = quadratic(np.linspace(1, 100, 10))
    gradients = lengths(problem.gradient, run(conjugate_gradient(problem.objective), problem, 10))
    assert gradients[9] > 1e-4 * gradients[0]
    assert gradients[10] < 1e-11 * gradients[0]


def test_conjugate_gradients_need_a_step_for_each_distinct_eigenvalue() -> None:
    problem = quadratic([1.0] * 4 + [50.0] * 4)
    gradients = lengths(problem.gradient, run(conjugate_gradient(problem.objective), problem, 2))
    assert gradients[2] < 1e-12 * gradients[0]


def test_lbfgs_converges_superlinearly() -> None:
    """The ratio of successive errors goes to 0, while that of gradient descent stays constant."""
    problem = logistic()
    gradients = lengths(problem.gradient, run(lbfgs(problem.objective), problem, 30))
    falling = gradients[gradients > 1e-14]
    ratios = falling[1:] / falling[:-1]
    assert falling[-1] < 1e-12
    assert ratios[-5:].prod() ** 0.2 < 0.1
    slow = lengths(problem.gradient, run(sgd(1.0), problem, 30))
    assert (slow[30] / slow[25]) ** 0.2 > 0.5


@pytest.mark.parametrize("make", [lbfgs, conjugate_gradient, newton])
def test_the_valley_of_rosenbrock(make: Any) -> None:
    problem = Problem(rosenbrock, *[None] * 3, start=np.array([-1.2, 1.0]))  # type: ignore[arg-type]
    np.testing.assert_allclose(run(make(rosenbrock), problem, 60)[-1], [1, 1], rtol=1e-10)


def test_only_the_saddle_free_method_leaves_a_saddle() -> None:
    def saddle(params: Any) -> jax.Array:
        x, y = params["w"]
        return x**2 - y**2 + y**4 / 4

    problem = Problem(saddle, *[None] * 3, start=np.array([0.5, 0.1]))  # type: ignore[arg-type]
    np.testing.assert_allclose(run(newton(saddle), problem, 20)[-1], [0, 0], atol=1e-12)
    left = run(newton(saddle, saddle_free=True, damping=0.1), problem, 60)[-1]
    np.testing.assert_allclose(left, [0, 2**0.5], atol=1e-8)


@pytest.mark.parametrize("make", [lbfgs, conjugate_gradient])
def test_the_objective_never_grows_even_when_rounding_decides(make: Any) -> None:
    problem = logistic()
    values = [problem.value(w) for w in run(make(problem.objective), problem, 60)]
    assert all(b <= a + 1e-15 for a, b in pairwise(values))
    still = {"w": jnp.zeros(2)}
    flat = make(lambda params: 0.0 * params["w"].sum())
    updates, _ = flat.update(still, flat.init(still), still)
    np.testing.assert_array_equal(updates["w"], [0, 0])
