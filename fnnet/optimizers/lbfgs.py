"""L-BFGS."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.leaves import params_given, zero_step
from fnnet.optimizers.line_search import Objective, along_direction, on_vectors, vectors, wolfe_step, zero_vector
from fnnet.types import Array, Params


class LbfgsState(NamedTuple):
    """The last changes ``s = Δθ`` and ``y = Δg``, newest last, ``(M, n)``; ``1 / sᵀy``, 0 where there is none yet."""

    step: Array
    theta: Array
    gradient: Array
    s: Array
    y: Array
    rho: Array


def lbfgs(objective: Objective, memory: int = 10, *, decrease: float = 1e-4, curvature: float = 0.9) -> Optimizer:
    """The limited-memory method of Broyden, Fletcher, Goldfarb and Shanno, with a line search; for whole batches.

    ``θ ← θ − t B g``, where ``B ≈ (∇²f)⁻¹`` comes from the last ``memory`` changes of parameters and gradients by the
    two-loop recursion (Nocedal and Wright 2006, algorithm 7.4) from ``B₀ = sᵀy / yᵀy · I`` (eq. 7.20), and ``t``, tried
    from 1, meets the Wolfe conditions with ``c₁ = decrease`` and ``c₂ = curvature``; the first step is tried at the
    length 1 along the gradient.

    ``objective(params)`` is the whole cost, ``lambda params: cost(params, (x, y))``; ``update`` is given its gradients.
    Never uphill. An update computes the objective and its slope at a few points more.
    """
    place = "optimizers.lbfgs"
    checks.positive_integer(place, "memory", memory)
    checks.require(
        0 < decrease < curvature < 1,
        f"{place}: decrease is {decrease} and curvature {curvature}; expected 0 < decrease < curvature < 1",
    )

    def init(params: Params) -> LbfgsState:
        zeros = zero_vector(params)
        s, y = (jnp.zeros((memory, zeros.size), zeros.dtype) for _ in range(2))
        return LbfgsState(zero_step(), zeros, zero_vector(params), s, y, jnp.zeros(memory, zeros.dtype))

    def update(grads: Params, state: LbfgsState, params: Params | None = None) -> tuple[Params, LbfgsState]:
        g, theta, back = vectors(place, grads, params_given(place, params))
        s, y, rho = remember(state, theta, g)
        shrink = jnp.where(state.step == 0, 1 / jnp.maximum(jnp.linalg.norm(g), jnp.finfo(g.dtype).tiny), 1)
        direction = -shrink * approximate_inverse(s, y, rho, g)
        function = on_vectors(objective, back)
        along, start = along_direction(function, theta, direction), jnp.ones((), g.dtype)
        t = wolfe_step(along, function(theta), g @ direction, start, decrease=decrease, curvature=curvature)
        return back(t * direction), LbfgsState(state.step + 1, theta, g, s, y, rho)

    return Optimizer(init, update)


def remember(state: LbfgsState, theta: Array, g: Array) -> tuple[Array, Array, Array]:
    """The memory with the latest change, where that has positive curvature."""
    s, y = theta - state.theta, g - state.gradient
    product = s @ y
    usable = (state.step > 0) & (product > jnp.finfo(g.dtype).eps * jnp.linalg.norm(s) * jnp.linalg.norm(y))
    rho = jnp.where(usable, 1 / jnp.where(usable, product, 1), 0)

    def append(memory: Array, new: Array) -> Array:
        return jnp.where(usable, jnp.concatenate([memory[1:], new[None]]), memory)

    return append(state.s, s), append(state.y, y), append(state.rho, rho)


def approximate_inverse(s: Array, y: Array, rho: Array, g: Array) -> Array:
    """``B g`` by the two-loop recursion; ``g`` itself while there is no memory."""

    def newest_first(q: Array, pair: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        s, y, rho = pair
        alpha = rho * (s @ q)
        return q - alpha * y, alpha

    def oldest_first(r: Array, pair: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        s, y, rho, alpha = pair
        return r + (alpha - rho * (y @ r)) * s, None

    q, alphas = jax.lax.scan(newest_first, g, (s, y, rho), reverse=True)
    square = y[-1] @ y[-1]
    scale = jnp.where(rho[-1] > 0, s[-1] @ y[-1] / jnp.where(square > 0, square, 1), 1)
    return jax.lax.scan(oldest_first, scale * q, (s, y, rho, alphas))[0]
