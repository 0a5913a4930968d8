"""The proximal step of an L1 penalty, which makes weights exactly 0; a subgradient only makes them small."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.checks import at_least_float32
from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.groups import for_chosen
from fnnet.optimizers.hyperparameters import check_not_negative, in_dtype, value_at
from fnnet.paths import Where
from fnnet.types import Array, Hyperparameter, Scalar


def soft_threshold(x: Array, threshold: Scalar) -> Array:
    """Return ``S_τ(x) = sign(x) max(|x| − τ, 0)`` of every entry, with ``τ = threshold ≥ 0``.

    The result is exactly 0 where ``|x| ≤ τ``. It is ``argmin_y ½ ‖y − x‖² + τ ‖y‖₁``, the proximal operator of the L1
    norm. ``x`` may have any shape.

    Source: Donoho and Johnstone 1994, "Ideal spatial adaptation by wavelet shrinkage"; Parikh and Boyd 2014,
    section 6.5.2.
    """
    check_not_negative("optimizers.soft_threshold", threshold=threshold)
    tau = in_dtype(threshold, x.dtype)
    # sign(x) * max(...) would give −0 for a small negative x. The comparison is false for NaN, which stays NaN.
    return jnp.where(jnp.abs(x) <= tau, jnp.zeros_like(x), x - jnp.sign(x) * tau)


def proximal_l1(strength: Hyperparameter, rate: Hyperparameter, where: Where = None) -> Optimizer:
    """Return the transform of proximal gradient descent with an L1 penalty, ``u ← S_{α λ}(θ + u) − θ`` (ISTA).

    It minimizes ``cost + λ Σ |w|`` with ``λ = strength``; the cost that the gradients are computed from must not
    contain this penalty. Put it after an algorithm: ``chain(sgd(0.1), proximal_l1(1e-3, rate=0.1))``. Weights become
    and stay exactly 0, while descent along the subgradient ``λ sign(w)`` of ``penalties.l1`` steps over 0 again and
    again. With an L2 penalty in the cost, the sum is the elastic net.

    ``rate = α`` is the learning rate of the algorithm, whose steps must be ``α`` times a gradient in the long run: that
    of ``sgd`` or ``momentum``, or ``α / (1 − β)`` for the heavy ball and ``nesterov``. An adaptive algorithm scales the
    gradient of every weight differently, so that one threshold for all weights minimizes another cost. ``where``
    chooses by name the parameters: by default those of at least two axes.

    Source: Beck and Teboulle 2009, eq. 1.4, after Daubechies, Defrise and De Mol 2004.
    """
    check_not_negative("optimizers.proximal_l1", strength=strength, rate=rate)

    def step_and_threshold(step: Array, u: Array, p: Array) -> Array:
        wide = at_least_float32(p)
        penalty, alpha = (in_dtype(value_at(number, step), wide) for number in (strength, rate))
        after = soft_threshold(p.astype(wide) + u.astype(wide), alpha * penalty)
        return (after - p.astype(wide)).astype(u.dtype)

    return for_chosen("optimizers.proximal_l1", where, step_and_threshold)
