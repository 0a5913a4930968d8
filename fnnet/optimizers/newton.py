"""Newton's method and its approximation for sums of squares. For small problems: matrices of n × n for n parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import all_in_dtype, check_not_negative, check_rate, values_at
from fnnet.optimizers.leaves import full_moments, params_given, zero_step
from fnnet.optimizers.line_search import Objective, on_vectors, vectors
from fnnet.types import Array, Hyperparameter, Params


class NewtonState(NamedTuple):
    step: Array


def newton(
    objective: Objective,
    learning_rate: Hyperparameter = 1.0,
    *,
    damping: Hyperparameter = 0.0,
    saddle_free: bool = False,
) -> Optimizer:
    """Newton's method (Nocedal and Wright 2006, section 3.3).

    ``θ ← θ − α (H + λ I)⁻¹ g``,  ``H = ∇²f(θ)``, ``λ = damping``.

    ``objective(params)`` is the whole cost, ``lambda params: cost(params, (x, y))``; ``update`` is given its gradients.
    A quadratic with ``H > 0`` is solved in one step. It goes to the nearest stationary point, saddles and maxima
    included; with ``saddle_free``, ``|H|``, the matrix with the eigenvalues' absolute values, stands for ``H``, and
    saddles are left (Dauphin et al. 2014, algorithm 1, in full). A singular matrix gives steps that are not finite: use
    some damping.
    """
    check_newton("optimizers.newton", learning_rate, damping)

    def update(grads: Params, state: NewtonState, params: Params | None = None) -> tuple[Params, NewtonState]:
        g, theta, back = vectors("optimizers.newton", grads, params_given("optimizers.newton", params))
        rate, shift = all_in_dtype(g.dtype, *values_at(state.step, learning_rate, damping))
        hessian = jax.hessian(on_vectors(objective, back))(theta)
        if saddle_free:
            eigenvalues, basis = jnp.linalg.eigh(hessian)
            direction = basis @ ((basis.T @ g) / (jnp.abs(eigenvalues) + shift))
        else:
            direction = jnp.linalg.solve(hessian + shift * jnp.eye(g.size, dtype=g.dtype), g)
        return back(-rate * direction), NewtonState(state.step + 1)

    return Optimizer(start, update)


def gauss_newton(
    residuals: Callable[[Params], Array], learning_rate: Hyperparameter = 1.0, *, damping: Hyperparameter = 0.0
) -> Optimizer:
    """Least squares, ``f = ½ ‖r(θ)‖²``:  ``θ ← θ − α (JᵀJ + λ I)⁻¹ Jᵀ r``,  ``J = ∂r/∂θ``, ``λ = damping``.

    ``residuals(params) -> r`` of shape ``(M,)`` gives the steps; the gradients, which are ``Jᵀ r``, are not looked at.
    A linear ``r`` is solved in one step. Computed as the least squares problem ``min ‖J d + r‖² + λ ‖d‖²``, so that the
    condition number is not squared; of many solutions the shortest. Source: Nocedal and Wright 2006, sections 10.2 and,
    for the damping (Levenberg 1944, Marquardt 1963), 10.3.
    """
    place = "optimizers.gauss_newton"
    check_newton(place, learning_rate, damping)

    def update(grads: Params, state: NewtonState, params: Params | None = None) -> tuple[Params, NewtonState]:
        g, theta, back = vectors(place, grads, params_given(place, params))
        rate, shift = all_in_dtype(g.dtype, *values_at(state.step, learning_rate, damping))

        def of_vector(vector: Array) -> tuple[Array, Array]:
            r = residuals(back(vector)).astype(vector.dtype)
            if r.ndim != 1:
                raise ValueError(f"{place}: residuals(params) has shape {r.shape}; expected (M,): .reshape(-1) it")
            return r, r

        jacobian, r = jax.jacobian(of_vector, has_aux=True)(theta)
        rows = jnp.sqrt(shift) * jnp.eye(theta.size, dtype=theta.dtype)
        matrix, right = jnp.concatenate([jacobian, rows]), jnp.concatenate([r, jnp.zeros_like(theta)])
        return back(-rate * jnp.linalg.lstsq(matrix, right)[0]), NewtonState(state.step + 1)

    return Optimizer(start, update)


def start(params: Params) -> NewtonState:
    full_moments(params, 0.0)  # refuses integers
    return NewtonState(zero_step())


def check_newton(place: str, learning_rate: Hyperparameter, damping: Hyperparameter) -> None:
    check_rate(place, learning_rate)
    check_not_negative(place, damping=damping)
