"""Objectives for the whole-batch optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import Optimizer, apply_updates


class Problem(NamedTuple):
    """An objective of ``{"w": (n,)}`` for JAX, and its value, gradient and Hessian for NumPy."""

    objective: Callable[[Any], jax.Array]
    value: Callable[[np.ndarray], float]
    gradient: Callable[[np.ndarray], np.ndarray]
    hessian: Callable[[np.ndarray], np.ndarray]
    start: np.ndarray


def quadratic(eigenvalues: Any) -> Problem:
    """Return ½ θᵀ H θ with the given eigenvalues, and a random start."""
    generator = np.random.default_rng(1)
    basis = np.linalg.qr(generator.standard_normal((len(eigenvalues),) * 2))[0]
    matrix = basis @ np.diag(eigenvalues) @ basis.T
    constant = jnp.asarray(matrix)
    return Problem(
        lambda params: 0.5 * params["w"] @ constant @ params["w"],
        lambda w: 0.5 * w @ matrix @ w,
        lambda w: matrix @ w,
        lambda w: matrix,
        generator.standard_normal(len(eigenvalues)),
    )


def logistic() -> Problem:
    """Return logistic regression with an L2 penalty of 0.01, which is strictly convex but not quadratic."""
    generator = np.random.default_rng(2)
    x = generator.standard_normal((40, 4)) * [1, 2, 0.5, 1]
    sign = np.where(x @ [1, -1, 2, 0.5] + generator.standard_normal(40) > 0, 1.0, -1.0)

    def probabilities(w: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(sign * (x @ w)))

    def hessian(w: np.ndarray) -> np.ndarray:
        p = probabilities(w)
        return (x.T * (p * (1 - p))) @ x / 40 + 0.01 * np.eye(4)

    return Problem(
        lambda params: jnp.logaddexp(0, -sign * (x @ params["w"])).mean() + 0.005 * params["w"] @ params["w"],
        lambda w: np.logaddexp(0, -sign * (x @ w)).mean() + 0.005 * w @ w,
        lambda w: -(x.T @ (sign * probabilities(w))) / 40 + 0.01 * w,
        hessian,
        np.array([1.0, 1.0, -1.0, 1.0]),
    )


def run(optimizer: Optimizer, problem: Problem, steps: int) -> np.ndarray:
    """Return the parameters at the start and after every step, ``(steps + 1, n)``."""

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        updates, state = optimizer.update(jax.grad(problem.objective)(params), state, params)
        params = apply_updates(params, updates)
        return (params, state), params["w"]

    params = {"w": jnp.asarray(problem.start)}
    program = jax.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), None, length=steps)[1])
    return np.concatenate([problem.start[None], program(params)])


def lengths(gradient: Callable[[np.ndarray], np.ndarray], path: np.ndarray) -> np.ndarray:
    return np.array([np.linalg.norm(gradient(w)) for w in path])


def rosenbrock(params: Any) -> jax.Array:
    x, y = params["w"]
    return 100 * (y - x**2) ** 2 + (1 - x) ** 2
