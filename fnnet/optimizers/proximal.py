"""The proximal step of an L1 penalty, which makes weights exactly zero where its subgradient only makes them small."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.groups import ScaleState
from fnnet.optimizers.hyperparameters import check_not_negative, in_dtype, values_at
from fnnet.optimizers.leaves import chosen, map_leaves, moment_dtype, params_given, zero_step
from fnnet.paths import is_weight
from fnnet.types import Array, Hyperparameter, Params, Scalar


def soft_threshold(x: Array, threshold: Scalar) -> Array:
    """``S_τ(x) = sign(x) max(|x| − τ, 0)``, entry by entry, ``τ = threshold ≥ 0``: exactly 0 where ``|x| ≤ τ``.

    It is ``argmin_y ½ ‖y − x‖² + τ ‖y‖₁``, the proximal operator of the L1 norm. Any shape. Source: Donoho and
    Johnstone 1994, "Ideal spatial adaptation by wavelet shrinkage"; Parikh and Boyd 2014, section 6.5.2.
    """
    check_not_negative("optimizers.soft_threshold", threshold=threshold)
    tau = in_dtype(threshold, x.dtype)
    # Not sign(x) * max(...), which is −0 for a small negative x; and a NaN, which is in no order, stays one.
    return jnp.where(jnp.abs(x) <= tau, jnp.zeros_like(x), x - jnp.sign(x) * tau)


def proximal_l1(strength: Hyperparameter, rate: Hyperparameter, where: Callable[[str], bool] = is_weight) -> Optimizer:
    """Proximal gradient descent with an L1 penalty: ``u ← S_{α λ}(θ + u) − θ``, after an algorithm (ISTA).

    Minimizes ``cost + λ Σ |w|``, ``λ = strength``, with the penalty left out of the cost that the gradients are of:
    ``chain(sgd(0.1), proximal_l1(1e-3, rate=0.1))``. Weights become and stay exactly 0, where descent along the
    subgradient ``λ sign(w)`` of ``penalties.l1`` steps over 0 again and again. An L2 penalty beside it, in the cost,
    makes it the elastic net's.

    ``rate = α`` is the learning rate of the algorithm. It must be one whose steps are ``α`` times a gradient in the
    long run, ``sgd`` or ``momentum``; for the heavy ball and ``nesterov`` that is ``α / (1 − β)``. After an adaptive
    algorithm, which scales every weight's gradient differently, one threshold for all minimizes another cost.
    ``where`` chooses the parameters by their names, by default the weights.

    Source: Beck and Teboulle 2009, eq. 1.4, after Daubechies, Defrise and De Mol 2004.
    """
    place = "optimizers.proximal_l1"
    check_not_negative(place, strength=strength, rate=rate)

    def init(params: Params) -> ScaleState:
        chosen(place, where, params)
        return ScaleState(zero_step())

    def update(grads: Params, state: ScaleState, params: Params | None = None) -> tuple[Params, ScaleState]:
        penalty, alpha = values_at(state.step, strength, rate)

        def leaf(u: Array, p: Array, penalized: bool) -> tuple[Array]:
            if not penalized:
                return (u,)
            wide = moment_dtype(p)
            threshold = in_dtype(alpha, wide) * in_dtype(penalty, wide)
            after = soft_threshold(p.astype(wide) + u.astype(wide), threshold)
            return ((after - p.astype(wide)).astype(u.dtype),)

        params = params_given(place, params)
        (updates,) = map_leaves(place, leaf, grads, given=(params, chosen(place, where, params)))
        return updates, ScaleState(state.step + 1)

    return Optimizer(init, update)
