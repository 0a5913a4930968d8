"""Newton's method and the Gauss-Newton method, for small problems: ``n`` parameters need matrices of ``n × n``."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer, StepState, zero_step
from fnnet.optimizers.hyperparameters import all_in_dtype, check_not_negative, values_at
from fnnet.optimizers.leaves import full_moments
from fnnet.optimizers.line_search import Objective, on_vectors, vectors
from fnnet.types import Array, Hyperparameter, Params


def newton(
    objective: Objective,
    learning_rate: Hyperparameter = 1.0,
    *,
    damping: Hyperparameter = 0.0,
    saddle_free: bool = False,
) -> Optimizer:
    """Return the optimizer of Newton's method.

    ``θ ← θ − α (H + λ I)⁻¹ g``  with ``H = ∇²f(θ)`` and ``λ = damping``.

    ``objective(params)`` is the whole cost, such as ``lambda params: cost(params, (x, y))``, and ``update`` takes its
    gradients. A quadratic with ``H > 0`` is solved in one step. The method goes to the nearest stationary point, which
    may be a saddle or a maximum. With ``saddle_free``, the matrix ``|H|``, which has the absolute values of the
    eigenvalues, replaces ``H``, and the method leaves saddles. A singular matrix gives steps that are not finite: use
    some damping.

    Source: Nocedal and Wright 2006, section 3.3; saddle-free, Dauphin et al. 2014, algorithm 1, with the full matrix.
    """
    check_not_negative("optimizers.newton", learning_rate=learning_rate, damping=damping)

    def update(grads: Params, state: StepState, params: Params | None = None) -> tuple[Params, StepState]:
        g, theta, back = vectors("optimizers.newton", grads, params)
        rate, shift = all_in_dtype(g.dtype, *values_at(state.step, learning_rate, damping))
        hessian = jax.hessian(on_vectors(objective, back))(theta)
        if saddle_free:
            eigenvalues, basis = jnp.linalg.eigh(hessian)
            direction = basis @ ((basis.T @ g) / (jnp.abs(eigenvalues) + shift))
        else:
            direction = jnp.linalg.solve(hessian + shift * jnp.eye(g.size, dtype=g.dtype), g)
        return back(-rate * direction), StepState(state.step + 1)

    return Optimizer(newton_init, update, "algorithm")


def gauss_newton(
    residuals: Callable[[Params], Array], learning_rate: Hyperparameter = 1.0, *, damping: Hyperparameter = 0.0
) -> Optimizer:
    """Return the optimizer of least squares, which minimizes ``f = ½ ‖r(θ)‖²``.

    ``θ ← θ − α (JᵀJ + λ I)⁻¹ Jᵀ r``  with ``J = ∂r/∂θ`` and ``λ = damping``.

    ``residuals(params)`` returns ``r`` of shape ``(M,)``. It determines the steps; the gradients, which are ``Jᵀ r``,
    are not used. A linear ``r`` is solved in one step. The step is computed as the least squares problem
    ``min ‖J d + r‖² + λ ‖d‖²``, because the condition number of ``JᵀJ`` is the square of that of ``J``. If there are
    many solutions, it is the shortest.

    Source: Nocedal and Wright 2006, section 10.2; with damping (Levenberg 1944, Marquardt 1963), section 10.3.
    """
    caller = "optimizers.gauss_newton"
    check_not_negative(caller, learning_rate=learning_rate, damping=damping)

    def update(grads: Params, state: StepState, params: Params | None = None) -> tuple[Params, StepState]:
        _, theta, back = vectors(caller, grads, params)
        rate, shift = all_in_dtype(theta.dtype, *values_at(state.step, learning_rate, damping))

        def of_vector(vector: Array) -> tuple[Array, Array]:
            r = residuals(back(vector)).astype(vector.dtype)
            if r.ndim != 1:
                raise ValueError(
                    f"{caller}: residuals(params) has shape {r.shape}; expected (M,): flatten it with .reshape(-1)"
                )
            return r, r

        jacobian, r = jax.jacobian(of_vector, has_aux=True)(theta)
        damped = jnp.sqrt(shift) * jnp.eye(theta.size, dtype=theta.dtype)
        matrix, right = jnp.concatenate([jacobian, damped]), jnp.concatenate([r, jnp.zeros_like(theta)])
        return back(-rate * jnp.linalg.lstsq(matrix, right)[0]), StepState(state.step + 1)

    return Optimizer(newton_init, update, "algorithm")


def newton_init(params: Params) -> StepState:
    full_moments(params, 0.0)  # raises an error if a parameter is an integer
    return StepState(zero_step())
