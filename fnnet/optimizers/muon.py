"""Muon."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.groups import grouped
from fnnet.optimizers.hyperparameters import all_in_dtype, check_decay, check_not_negative, check_rate, values_at
from fnnet.optimizers.leaves import chosen, map_leaves, norm, params_given, zero_moments, zero_step
from fnnet.optimizers.momentum import MomentumState
from fnnet.paths import is_weight, named_leaves
from fnnet.types import Array, Hyperparameter, Params

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of the quintic that Jordan fitted: fast from 0, within [0.7, 1.2] at 1


def muon(
    learning_rate: Hyperparameter,
    others: Optimizer,
    beta: Hyperparameter = 0.95,
    *,
    nesterov: bool = True,
    weight_decay: Hyperparameter = 0.0,
    iterations: int = 5,
    where: Callable[[str], bool] = is_weight,
) -> Optimizer:
    """Momentum orthogonalized by Newton-Schulz, for matrices (Jordan et al. 2024); ``others`` for the rest.

    ``v ← β v + g``,  ``u = g + β v`` (``v`` itself without ``nesterov``),  ``O = orthogonalized(u)``,
    ``θ ← θ − α (√max(1, H / D) O + λ θ)`` for ``θ`` of shape ``(D, H)``, ``λ = weight_decay``.

    ``where`` chooses the matrices by their names, by default the weights; Jordan leaves the first and the last layer to
    ``others`` as well. A weight with more axes is the matrix of its last axis against all others together, as a kernel
    is of its patches. The state is that of ``groups`` named "matrices" and "others". optax's
    ``contrib.muon`` averages the momentum and corrects its bias: without ``nesterov`` the same steps, with it another
    mixture of ``g`` and ``v`` in the first ones. PyTorch works in bfloat16.
    """
    return grouped(
        lambda name: "matrices" if where(name) else "others",
        {"matrices": muon_matrices(learning_rate, beta, nesterov, weight_decay, iterations), "others": others},
        lambda params: chosen("optimizers.muon", where, params),
    )


def muon_matrices(
    learning_rate: Hyperparameter,
    beta: Hyperparameter,
    nesterov: bool,
    weight_decay: Hyperparameter,
    iterations: int,
) -> Optimizer:
    """The algorithm, for trees of matrices alone."""
    place = "optimizers.muon"
    check_rate(place, learning_rate)
    check_decay(place, beta=beta)
    check_not_negative(place, weight_decay=weight_decay)
    checks.positive_integer(place, "iterations", iterations)

    def init(params: Params) -> MomentumState:
        for name, p in named_leaves(params):
            checks.require(
                p.ndim >= 2, f"{place}: {name!r} has shape {p.shape}; expected a matrix: let where= leave it to others="
            )
        return MomentumState(zero_step(), zero_moments(params))

    def update(grads: Params, state: MomentumState, params: Params | None = None) -> tuple[Params, MomentumState]:
        hyperparameters = values_at(state.step, learning_rate, beta, weight_decay)

        def leaf(g: Array, v: Array, p: Array) -> tuple[Array, Array]:
            rate, b, decay = all_in_dtype(v.dtype, *hyperparameters)
            wide = g.astype(v.dtype)
            v = b * v + wide
            matrix = (wide + b * v if nesterov else v).reshape(-1, v.shape[-1])
            longer = max(1, matrix.shape[1] / matrix.shape[0]) ** 0.5
            change = longer * orthogonalized(matrix, iterations).reshape(v.shape) + decay * p.astype(v.dtype)
            return (-rate * change).astype(g.dtype), v

        updates, velocity = map_leaves(place, leaf, grads, state.velocity, given=(params_given(place, params),))
        return updates, MomentumState(state.step + 1, velocity)

    return Optimizer(init, update)


def orthogonalized(matrix: Array, iterations: int = 5) -> Array:
    """About ``U Vᵀ`` of a matrix ``U S Vᵀ``: every singular value brought near 1, without a decomposition.

    ``X ← a X + (b A + c A²) X`` with ``A = X Xᵀ``, from ``X = M / ‖M‖_F``; ``a, b, c = NEWTON_SCHULZ``.
    A matrix of zeros stays one. Jordan divides by ``‖M‖_F + 1e-7``, which shrinks the steps of small gradients.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T  # the smaller of the two products
    length = norm(x)
    x = x / jnp.where(length == 0, 1, length)

    def iteration(x: Array, _: None) -> tuple[Array, None]:
        gram = x @ x.T
        return a * x + (b * gram + c * gram @ gram) @ x, None

    x, _ = jax.lax.scan(iteration, x, None, length=iterations)
    return x if wide else x.T
