"""Nonlinear conjugate gradients."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer, zero_step
from fnnet.optimizers.line_search import (
    Objective,
    along_direction,
    check_wolfe,
    on_vectors,
    vectors,
    wolfe_step,
    zero_vector,
)
from fnnet.types import Array, Params


class ConjugateGradientState(NamedTuple):
    step: Array
    gradient: Array
    direction: Array


def conjugate_gradient(objective: Objective, *, decrease: float = 1e-4, curvature: float = 0.1) -> Optimizer:
    """Return the optimizer of nonlinear conjugate gradients, with restarts and a line search.

    ``d ← −g + β d``,  ``β = max(0, gᵀ (g − g₋) / g₋ᵀ g₋)``  with the gradient ``g₋`` of the update before, then
    ``θ ← θ + t d``. If ``d`` is not a descent direction, ``d ← −g``.

    The first ``t`` that is tried is ``−gᵀd / dᵀ H d``, the minimum of the parabola along ``d``, which takes one product
    of the Hessian with a vector. The line search changes it only if it fails the Wolfe conditions with ``c₁ =
    decrease`` and ``c₂ = curvature``, so that a quadratic in ``n`` parameters is solved in ``n`` steps.

    ``objective(params)`` is the whole cost, such as ``lambda params: cost(params, (x, y))``, and ``update`` takes its
    gradients. The cost never grows.

    Source: Polak and Ribière 1969; Nocedal and Wright 2006, eq. 5.44-5.45.
    """
    caller = "optimizers.conjugate_gradient"
    check_wolfe(caller, decrease, curvature)

    def init(params: Params) -> ConjugateGradientState:
        return ConjugateGradientState(zero_step(), zero_vector(params), zero_vector(params))

    def update(
        grads: Params, state: ConjugateGradientState, params: Params | None = None
    ) -> tuple[Params, ConjugateGradientState]:
        g, theta, back = vectors(caller, grads, params)
        square = state.gradient @ state.gradient  # 0 before the first update
        beta = jnp.where(square > 0, g @ (g - state.gradient) / jnp.where(square > 0, square, 1), 0)
        direction = -g + jnp.maximum(beta, 0) * state.direction
        direction = jnp.where(g @ direction < 0, direction, -g)

        function, slope = on_vectors(objective, back), g @ direction
        curved = direction @ jax.jvp(jax.grad(function), (theta,), (direction,))[1]
        length = jnp.linalg.norm(direction)
        start = jnp.where(curved > 0, -slope / jnp.where(curved > 0, curved, 1), 1 / jnp.where(length > 0, length, 1))
        along = along_direction(function, theta, direction)
        t = wolfe_step(along, function(theta), slope, start, decrease=decrease, curvature=curvature)
        return back(t * direction), ConjugateGradientState(state.step + 1, g, direction)

    return Optimizer(init, update, "algorithm")
