"""How far gradients reach through time: the Jacobians of a recurrence, and their products.

A recurrence ``c_t = F(c_{t−1}, x_t)``, ``t = 1 ... T``, has the Jacobians ``J_t = ∂c_t/∂c_{t−1}``. By the chain rule,
``∂c_T/∂c_t = J_T J_{T−1} ... J_{t+1}``. A carry of several arrays counts as one vector of ``S`` entries: the carry
``(h, c)`` of an LSTM has ``S = 2 H``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet.layers import Recurrent
from fnnet.layers.cells import Carry
from fnnet.spectrum import singular_values
from fnnet.types import Array, Params


def carry_jacobians(
    layer: Recurrent, params: Params, x: Any, carry: Carry | None = None, mask: Array | None = None
) -> Array:
    """Return ``J_t`` for every step and example, ``(T, N, S, S)``, in the order in which the layer takes the steps.

    ``J_t[i, j] = ∂c_t[i] / ∂c_{t−1}[j]``. It is the identity at the steps that the mask leaves out.
    """
    x = jnp.asarray(x)
    carry, mask = layer.checked(x, carry, mask)
    exists = jnp.ones(x.shape[:2], bool) if mask is None else mask
    in_time = jnp.swapaxes(x, 0, 1), jnp.swapaxes(exists, 0, 1)
    if layer.reverse:
        in_time = in_time[0][::-1], in_time[1][::-1]

    def step(carry: Carry, inputs: tuple[Array, Array]) -> Carry:
        # One step of one example.
        x, exists = inputs
        after, _ = layer.cell.step(params, jax.tree.map(lambda c: c[None], carry), x[None])
        return jax.tree.map(lambda a, b: jnp.where(exists, a[0], b), after, carry)

    def run(carry: Carry, inputs: tuple[Array, Array]) -> tuple[Carry, Array]:
        jacobians = jax.vmap(lambda *example: as_matrix(jax.jacfwd(step)(*example), carry))(carry, inputs)
        return jax.vmap(step)(carry, inputs), jacobians

    return jax.lax.scan(run, carry, in_time)[1]


def as_matrix(jacobian: Any, carry: Carry) -> Array:
    """Return a tree of trees of ``(H, H)`` as one matrix ``(S, S)``."""
    rows = jax.tree.map(lambda _, row: jnp.concatenate(jax.tree.leaves(row), -1), carry, jacobian)
    return jnp.concatenate(jax.tree.leaves(rows), -2)


class GradientFlow(NamedTuple):
    """The norms ``‖∂c_T/∂c_t‖₂`` and bounds ``Π_{s > t} ‖J_s‖₂``, each ``(T + 1, N)``. Both are 1 at ``t = T``."""

    norms: Array
    bounds: Array


def gradient_flow(
    layer: Recurrent, params: Params, x: Any, carry: Carry | None = None, mask: Array | None = None
) -> GradientFlow:
    """Return how strongly the last carry depends on the carry at step ``t``, for ``t = 0 ... T``.

    This is also the factor by which a gradient grows or shrinks on its way back. ``norms`` are the exact norms of the
    products of the Jacobians; ``bounds`` are the products of the norms. For an ``RNNCell``, ``‖J_s‖₂ ≤ max|f'|
    ‖w_h‖₂``: gradients vanish if that is below 1, and can explode only if it is above 1. The time is ``O(T N S³)``.

    Source: Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks", eq. 5-7.
    """
    jacobians = carry_jacobians(layer, params, x, carry, mask)
    identity = jnp.broadcast_to(jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype), jacobians.shape[1:])

    def back(state: tuple[Array, Array], jacobian: Array) -> Any:
        product, bound = state
        product = jnp.matmul(product, jacobian, precision=jax.lax.Precision.HIGHEST)
        bound = bound * singular_values(jacobian)[..., 0]
        return (product, bound), (singular_values(product)[..., 0], bound)

    start = identity, jnp.ones(jacobians.shape[1], jacobians.dtype)
    _, before = jax.lax.scan(back, start, jacobians, reverse=True)
    norms, bounds = (jnp.concatenate([each, start[1][None]]) for each in before)
    return GradientFlow(norms, bounds)
