"""L-BFGS."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
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


class LbfgsState(NamedTuple):
    """The last changes ``s = Δθ`` and ``y = Δg`` of shape ``(M, n)``, newest last, and ``1 / sᵀy`` of shape ``(M,)``.

    Rows that hold no change yet are 0.
    """

    step: Array
    theta: Array
    gradient: Array
    s: Array
    y: Array
    rho: Array


def lbfgs(objective: Objective, memory: int = 10, *, decrease: float = 1e-4, curvature: float = 0.9) -> Optimizer:
    """Return the limited-memory optimizer of Broyden, Fletcher, Goldfarb and Shanno, with a line search.

    ``θ ← θ − t B g``, where ``B ≈ (∇²f)⁻¹`` is computed from the last ``memory`` changes of the parameters and the
    gradients by the two-loop recursion, starting with ``B₀ = sᵀy / yᵀy · I`` (eq. 7.20). The step ``t``, which is tried
    from 1 on, meets the Wolfe conditions with ``c₁ = decrease`` and ``c₂ = curvature``. The first update first tries a
    step of length 1 along the gradient.

    ``objective(params)`` is the whole cost, such as ``lambda params: cost(params, (x, y))``, and ``update`` takes its
    gradients. The cost never grows. Every update computes the objective and its slope at a few more points.

    Source: Nocedal and Wright 2006, algorithm 7.4.
    """
    caller = "optimizers.lbfgs"
    checks.positive_integer(caller, "memory", memory)
    check_wolfe(caller, decrease, curvature)

    def init(params: Params) -> LbfgsState:
        zeros = zero_vector(params)
        s, y = (jnp.zeros((memory, zeros.size), zeros.dtype) for _ in range(2))
        return LbfgsState(zero_step(), zeros, zero_vector(params), s, y, jnp.zeros(memory, zeros.dtype))

    def update(grads: Params, state: LbfgsState, params: Params | None = None) -> tuple[Params, LbfgsState]:
        g, theta, back = vectors(caller, grads, params)
        s, y, rho = remember(state, theta, g)
        shrink = jnp.where(state.step == 0, 1 / jnp.maximum(jnp.linalg.norm(g), jnp.finfo(g.dtype).tiny), 1)
        direction = -shrink * two_loop_recursion(s, y, rho, g)
        function = on_vectors(objective, back)
        along, start = along_direction(function, theta, direction), jnp.ones((), g.dtype)
        t = wolfe_step(along, function(theta), g @ direction, start, decrease=decrease, curvature=curvature)
        return back(t * direction), LbfgsState(state.step + 1, theta, g, s, y, rho)

    return Optimizer(init, update, "algorithm")


def remember(state: LbfgsState, theta: Array, g: Array) -> tuple[Array, Array, Array]:
    """Return the memory with the latest change, which is left out unless its curvature is positive."""
    s, y = theta - state.theta, g - state.gradient
    product = s @ y
    usable = (state.step > 0) & (product > jnp.finfo(g.dtype).eps * jnp.linalg.norm(s) * jnp.linalg.norm(y))
    rho = jnp.where(usable, 1 / jnp.where(usable, product, 1), 0)

    def append(memory: Array, new: Array) -> Array:
        return jnp.where(usable, jnp.concatenate([memory[1:], new[None]]), memory)

    return append(state.s, s), append(state.y, y), append(state.rho, rho)


def two_loop_recursion(s: Array, y: Array, rho: Array, g: Array) -> Array:
    """Return ``B g``, or ``g`` itself while there is no memory (Nocedal and Wright 2006, algorithm 7.4)."""

    def newest_first(q: Array, change: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        s, y, rho = change
        alpha = rho * (s @ q)
        return q - alpha * y, alpha

    def oldest_first(r: Array, change: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        s, y, rho, alpha = change
        return r + (alpha - rho * (y @ r)) * s, None

    q, alphas = jax.lax.scan(newest_first, g, (s, y, rho), reverse=True)
    square = y[-1] @ y[-1]
    scale = jnp.where(rho[-1] > 0, s[-1] @ y[-1] / jnp.where(square > 0, square, 1), 1)
    return jax.lax.scan(oldest_first, scale * q, (s, y, rho, alphas))[0]
