"""Conjugate gradients."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.leaves import params_given, zero_step
from fnnet.optimizers.line_search import Objective, along_direction, on_vectors, vectors, wolfe_step, zero_vector
from fnnet.types import Array, Params


class ConjugateGradientState(NamedTuple):
    step: Array
    gradient: Array
    direction: Array


def conjugate_gradient(objective: Objective, *, decrease: float = 1e-4, curvature: float = 0.1) -> Optimizer:
    """Nonlinear conjugate gradients (Polak and Ribière 1969), with restarts and a line search; for whole batches.

    ``d ← −g + β d``,  ``β = max(0, gᵀ (g − g₋) / g₋ᵀ g₋)`` with the gradient ``g₋`` before (Nocedal and Wright 2006,
    eq. 5.44-5.45);  ``θ ← θ + t d``. The first ``t`` tried is ``−gᵀd / dᵀ H d``, the minimum of the parabola along
    ``d``, by one product of the Hessian with a vector; it is changed only if it fails the Wolfe conditions with
    ``c₁ = decrease`` and ``c₂ = curvature``. So a quadratic in ``n`` parameters is solved in ``n`` steps.

    ``objective(params)`` is the whole cost, ``lambda params: cost(params, (x, y))``; ``update`` is given its gradients.
    Never uphill.
    """
    place = "optimizers.conjugate_gradient"
    checks.require(
        0 < decrease < curvature < 1,
        f"{place}: decrease is {decrease} and curvature {curvature}; expected 0 < decrease < curvature < 1",
    )

    def init(params: Params) -> ConjugateGradientState:
        return ConjugateGradientState(zero_step(), zero_vector(params), zero_vector(params))

    def update(
        grads: Params, state: ConjugateGradientState, params: Params | None = None
    ) -> tuple[Params, ConjugateGradientState]:
        g, theta, back = vectors(place, grads, params_given(place, params))
        direction = next_direction(state, g)
        function = on_vectors(objective, back)
        slope = g @ direction
        curved = direction @ jax.jvp(jax.grad(function), (theta,), (direction,))[1]
        length = jnp.linalg.norm(direction)
        start = jnp.where(curved > 0, -slope / jnp.where(curved > 0, curved, 1), 1 / jnp.where(length > 0, length, 1))
        along = along_direction(function, theta, direction)
        t = wolfe_step(along, function(theta), slope, start, decrease=decrease, curvature=curvature)
        return back(t * direction), ConjugateGradientState(state.step + 1, g, direction)

    return Optimizer(init, update)


def next_direction(state: ConjugateGradientState, g: Array) -> Array:
    """Conjugate to the last one; against the gradient where that would not be downhill."""
    square = state.gradient @ state.gradient
    beta = jnp.where(square > 0, g @ (g - state.gradient) / jnp.where(square > 0, square, 1), 0)
    direction = -g + jnp.maximum(beta, 0) * state.direction
    return jnp.where(g @ direction < 0, direction, -g)
