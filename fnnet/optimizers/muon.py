"""Muon."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.norms import norm
from fnnet.optimizers.base import Optimizer, kind_of
from fnnet.optimizers.groups import grouped
from fnnet.optimizers.hyperparameters import check_decay_rate, check_not_negative
from fnnet.optimizers.leaves import chosen, leafwise
from fnnet.optimizers.momentum import MomentumState
from fnnet.paths import Where, is_chosen, named_leaves
from fnnet.types import Array, Hyperparameter, Params, Scalar

# Jordan's coefficients of the quintic: steep at 0, and between 0.7 and 1.2 near 1.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def muon(
    learning_rate: Hyperparameter,
    others: Optimizer,
    momentum: Hyperparameter = 0.95,
    *,
    nesterov: bool = True,
    weight_decay: Hyperparameter = 0.0,
    iterations: int = 5,
    where: Where = None,
) -> Optimizer:
    """Return the optimizer of momentum orthogonalized by Newton-Schulz iterations, which is for matrices.

    ``v ← β v + g``,  ``u = g + β v`` (``u = v`` without ``nesterov``),  ``O = orthogonalized(u)``,
    ``θ ← θ − α (√max(1, H / D) O + λ θ)``  for ``θ`` of shape ``(D, H)``, with ``β = momentum``, ``λ = weight_decay``
    and ``v`` starting at 0.

    ``where`` chooses the matrices by their names: by default the weights. The optimizer ``others`` updates the other
    parameters; Jordan leaves the first and the last layer to it as well. A weight with more axes counts as the matrix
    of its last axis against all other axes, as the kernel of a convolution does for its patches. The state is that of
    ``groups`` with the groups "matrices" and "others".

    ``optax.contrib.muon`` averages the momentum and corrects its bias: it takes the same steps without ``nesterov``,
    and weighs ``g`` and ``v`` differently in the first steps with it. PyTorch orthogonalizes in bfloat16.

    Source: Jordan et al. 2024.
    """
    caller = "optimizers.muon"
    check_not_negative(caller, learning_rate=learning_rate, weight_decay=weight_decay)
    check_decay_rate(caller, momentum=momentum)
    checks.positive_integer(caller, "iterations", iterations)
    kind_of(caller, others)

    def leaf(h: tuple[Scalar, ...], g: Array, v: Array, p: Array, is_chosen: bool) -> tuple[Array, Array]:
        rate, beta, decay = h
        v = beta * v + g
        u = (g + beta * v if nesterov else v).reshape(-1, v.shape[-1])
        factor = max(1, u.shape[1] / u.shape[0]) ** 0.5
        return -rate * (factor * orthogonalized(u, iterations).reshape(v.shape) + decay * p), v

    def check(params: Params) -> None:
        chosen(caller, where, params)
        for name, p in named_leaves(params):
            checks.require(
                p.ndim >= 2 or not is_chosen(where, name, p),
                f"{caller}: {name!r} has shape {p.shape}; expected a matrix: leave it to others= by where=",
            )

    numbers = learning_rate, momentum, weight_decay
    table = {
        "matrices": leafwise(caller, MomentumState, leaf, numbers, choose=partial(chosen, caller, lambda name: True)),
        "others": others,
    }
    return grouped(lambda name, p: "matrices" if is_chosen(where, name, p) else "others", table, check, "algorithm")


def orthogonalized(matrix: Array, iterations: int = 5) -> Array:
    """Return about ``U Vᵀ`` of a matrix ``U S Vᵀ``: every singular value comes near 1, without a decomposition.

    ``X ← a X + (b A + c A²) X``  with ``A = X Xᵀ``, from ``X = M / ‖M‖_F``, with ``a, b, c = NEWTON_SCHULZ``.

    A matrix of zeros stays a matrix of zeros. Jordan divides by ``‖M‖_F + 1e-7``, which shortens the steps of small
    gradients.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T  # X Xᵀ is then the smaller of the two products
    length = norm(x)
    x = x / jnp.where(length == 0, 1, length)

    def iteration(x: Array, _: None) -> tuple[Array, None]:
        gram = x @ x.T
        return a * x + (b * gram + c * gram @ gram) @ x, None

    x, _ = jax.lax.scan(iteration, x, None, length=iterations)
    return x if wide else x.T
