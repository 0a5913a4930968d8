"""The whole-batch optimizers are compared with NumPy loops, and keep what every optimizer keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, Optimizer, apply_updates, fit, losses, optimizers, sequential, tanh
from fnnet.optimizers import conjugate_gradient, gauss_newton, lbfgs, newton
from tests.compare import CountingTraces, assert_close
from tests.optimizers.problems import Problem, logistic, quadratic, rosenbrock, run

pytestmark = pytest.mark.usefixtures("x64")

# The references


def wolfe(problem: Problem, w: np.ndarray, d: np.ndarray, t: float, c1: float, c2: float) -> float:
    low, high = 0.0, np.inf
    value, slope = problem.value(w), problem.gradient(w) @ d
    for _ in range(30):
        at_t, slope_at_t = problem.value(w + t * d), problem.gradient(w + t * d) @ d
        level = at_t <= value + 8 * np.finfo(float).eps * abs(value) and slope_at_t <= (2 * c1 - 1) * slope
        if not (at_t <= value + c1 * t * slope or level):
            high = t
        elif slope_at_t < c2 * slope:
            low = t
        else:
            return t
        t = 2 * t if np.isinf(high) else (low + high) / 2
    return low


def reference_newton(problem: Problem, steps: int, rate: float = 1.0, damping: float = 0.0) -> np.ndarray:
    path = [problem.start]
    for _ in range(steps):
        w = path[-1]
        path.append(w - rate * np.linalg.inv(problem.hessian(w) + damping * np.eye(len(w))) @ problem.gradient(w))
    return np.stack(path)


def reference_lbfgs(problem: Problem, steps: int, memory: int) -> np.ndarray:
    """The inverse Hessian is a matrix here, updated by (I − ρ s yᵀ) B (I − ρ y sᵀ) + ρ s sᵀ for the last pairs."""
    path, pairs = [problem.start], []
    for k in range(steps):
        w, g = path[-1], problem.gradient(path[-1])
        if k:
            pairs.append((w - path[-2], g - problem.gradient(path[-2])))
        b = np.eye(len(w))
        if pairs:
            b *= pairs[-1][0] @ pairs[-1][1] / (pairs[-1][1] @ pairs[-1][1])
        for s, y in pairs[-memory:]:
            turn = np.eye(len(w)) - np.outer(s, y) / (s @ y)
            b = turn @ b @ turn.T + np.outer(s, s) / (s @ y)
        d = -b @ g / (np.linalg.norm(g) if k == 0 else 1)
        path.append(w + wolfe(problem, w, d, 1.0, 1e-4, 0.9) * d)
    return np.stack(path)


def reference_conjugate_gradient(problem: Problem, steps: int) -> np.ndarray:
    path, d, before = [problem.start], np.zeros_like(problem.start), None
    for _ in range(steps):
        w, g = path[-1], problem.gradient(path[-1])
        beta = 0.0 if before is None else max(0.0, g @ (g - before) / (before @ before))
        d = -g + beta * d
        if g @ d >= 0:
            d = -g
        path.append(w + wolfe(problem, w, d, -(g @ d) / (d @ problem.hessian(w) @ d), 1e-4, 0.1) * d)
        before = g
    return np.stack(path)


STEPS = {"quadratic": 6, "logistic": 8}  # after that, rounding decides


@pytest.mark.parametrize("name", STEPS)
def test_steps_equal_the_references(name: str) -> None:
    """They are compared until the gradient has fallen to about 1e-6; then the line search compares rounding errors."""
    problem = {"quadratic": quadratic(np.linspace(1, 30, 8)), "logistic": logistic()}[name]
    steps = STEPS[name]
    assert_close(run(lbfgs(problem.objective, 3), problem, steps), reference_lbfgs(problem, steps, 3))
    cg = conjugate_gradient(problem.objective)
    assert_close(run(cg, problem, steps), reference_conjugate_gradient(problem, steps))
    damped = newton(problem.objective, 0.7, damping=0.3)
    assert_close(run(damped, problem, 50), reference_newton(problem, 50, 0.7, 0.3), 1e-11)


def test_gauss_newton_solves_linear_least_squares_in_one_step() -> None:
    generator = np.random.default_rng(3)
    a, b = generator.standard_normal((7, 3)), generator.standard_normal(7)
    optimizer = gauss_newton(lambda params: a @ params["w"] - b)
    params = {"w": jnp.ones(3)}
    updates, _ = optimizer.update({"w": jnp.zeros(3)}, optimizer.init(params), params)
    np.testing.assert_allclose(apply_updates(params, updates)["w"], np.linalg.lstsq(a, b)[0], rtol=1e-12)


def test_gauss_newton_with_damping_on_a_curve() -> None:
    """The reference of fitting a exp(b x) takes each step from the normal equations."""
    x = np.linspace(0, 1, 9)
    y = 2 * np.exp(-1.5 * x) + 0.01 * np.cos(20 * x)
    start, damping = np.array([1.0, 0.0]), 0.1
    optimizer = gauss_newton(lambda p: p["w"][0] * jnp.exp(p["w"][1] * x) - y, damping=damping)
    problem = Problem(lambda p: 0.0 * p["w"].sum(), *[None] * 3, start=start)  # type: ignore[arg-type]
    path = [start]
    for _ in range(8):
        a, b = path[-1]
        jacobian = np.stack([np.exp(b * x), a * x * np.exp(b * x)], 1)
        normal = jacobian.T @ jacobian + damping * np.eye(2)
        path.append(path[-1] - np.linalg.inv(normal) @ jacobian.T @ (a * np.exp(b * x) - y))
    assert_close(run(optimizer, problem, 8), np.stack(path))


def distances(params: Any) -> jax.Array:
    """Return residuals whose sum of squares is the objective below."""
    return jnp.concatenate([(p - 1).reshape(-1) for p in jax.tree.leaves(params)])


OF_OBJECTIVE: dict[str, Callable[[Any], Optimizer]] = {
    "newton": lambda f: newton(f, damping=1e-3),
    "gauss_newton": lambda f: gauss_newton(distances, damping=1e-3),
    "lbfgs": lbfgs,
    "conjugate_gradient": conjugate_gradient,
}


@pytest.mark.parametrize("name", OF_OBJECTIVE)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtypes_donation_and_one_trace(name: str, dtype: str) -> None:
    def objective(params: Any) -> jax.Array:
        return sum(jnp.square(p - 1).sum() for p in jax.tree.leaves(params))

    params = [{"w": jnp.ones((2, 2), dtype) * 3, "b": jnp.zeros(2, dtype)}]
    optimizer = OF_OBJECTIVE[name](objective)
    state = optimizer.init(params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, state))]
    assert len(set(pointers)) == len(pointers)

    @CountingTraces
    def step(params: Any, state: Any) -> Any:
        updates, state = optimizer.update(jax.grad(objective)(params), state, params)
        return apply_updates(params, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1))
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(state)]
    assert set(dtypes) <= {jnp.dtype("int32"), jnp.dtype("float32" if dtype == "bfloat16" else dtype)}
    for _ in range(3):
        params, state = compiled(params, state)
    assert step.count == 1
    assert [leaf.dtype for leaf in jax.tree.leaves(state)] == dtypes
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    np.testing.assert_allclose(np.asarray(params[0]["w"], float), 1, rtol=0.02)


def test_every_optimizer_of_an_objective_is_tested() -> None:
    first = {name: getattr(optimizers, name) for name in optimizers.__all__}
    given = {
        name
        for name, value in first.items()
        if next(iter(getattr(value, "__annotations__", {})), None) in ("objective", "residuals")
    }
    assert given == set(OF_OBJECTIVE)


def test_a_network_in_fit_with_its_whole_batch() -> None:
    x = jnp.linspace(-1, 1, 16)[:, None]
    data = (x, jnp.sin(3 * x))
    cost = Cost(sequential(Dense(5), tanh, Dense(1)), losses.squared_error)
    params = cost.model.init(jax.random.key(0), x)
    optimizer = lbfgs(lambda params: cost(params, data))
    result = fit(cost, optimizer, params, data, key=jax.random.key(1), epochs=200, batch_size=16, shuffle=False)
    assert result.history["cost"][-1] < 1e-4 < 1e-2 < result.history["cost"][0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: newton(rosenbrock, -1), "optimizers.newton: learning_rate is -1"),
        (lambda: newton(rosenbrock, damping=-1), "optimizers.newton: damping is -1"),
        (lambda: gauss_newton(rosenbrock, damping=-1), "optimizers.gauss_newton: damping is -1"),
        (lambda: lbfgs(rosenbrock, 0), "optimizers.lbfgs: memory is 0"),
        (
            lambda: lbfgs(rosenbrock, decrease=0.9, curvature=0.5),
            "optimizers.lbfgs: decrease is 0.9 and curvature is 0.5",
        ),
        (lambda: conjugate_gradient(rosenbrock, decrease=0), "optimizers.conjugate_gradient: decrease is 0"),
    ],
)
def test_bad_hyperparameters_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_arguments_are_refused() -> None:
    params = {"w": jnp.ones(2)}
    optimizer = lbfgs(rosenbrock)
    with pytest.raises(ValueError, match=r"optimizers\.lbfgs: params is None"):
        optimizer.update(params, optimizer.init(params))
    with pytest.raises(ValueError, match=r"optimizers.lbfgs: the gradient 'w' has shape \(3,\)"):
        optimizer.update({"w": jnp.ones(3)}, optimizer.init(params), params)
    with pytest.raises(TypeError, match="parameter 'w' has dtype int"):
        newton(rosenbrock).init({"w": jnp.ones(2, int)})
    least = gauss_newton(lambda params: jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"residuals\(params\) has shape \(2, 2\)"):
        least.update(params, least.init(params), params)
