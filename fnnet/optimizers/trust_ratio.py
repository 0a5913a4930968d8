"""LARS and LAMB: a rate for every tensor, from the ratio of the length of its weights to the length of its gradient."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from fnnet.norms import norm
from fnnet.optimizers.adam import AdamState, adam_state, check_adam, next_powers
from fnnet.optimizers.base import Optimizer, zero_step
from fnnet.optimizers.bias_correction import total_weight
from fnnet.optimizers.hyperparameters import all_in_dtype, check_decay_rate, check_not_negative, values_at
from fnnet.optimizers.leaves import chosen, map_leaves, params_given, zero_moments
from fnnet.optimizers.momentum import MomentumState
from fnnet.paths import is_weight
from fnnet.types import Array, Hyperparameter, Params, Scalar


def lars(
    learning_rate: Hyperparameter,
    momentum: Hyperparameter = 0.9,
    *,
    trust: Hyperparameter = 1e-3,
    weight_decay: Hyperparameter = 0.0,
    where: Callable[[str], bool] = is_weight,
) -> Optimizer:
    """Return the optimizer of momentum with a rate for every tensor.

    ``λ = η ‖θ‖ / (‖g‖ + ω ‖θ‖)``,  ``v ← β v + α λ (g + ω θ)``,  ``θ ← θ − v``,
    with ``η = trust``, ``ω = weight_decay``, ``β = momentum`` and ``v`` starting at 0.

    ``where`` chooses by name the tensors that are scaled and that decay: by default the weights. For the others
    ``v ← β v + α g``. Where a norm is 0, ``λ = 1``. optax divides by the norm of ``g + ω θ``, which is the same without
    decay.

    Source: You, Gitman and Ginsburg 2017, algorithm 1.
    """
    caller = "optimizers.lars"
    check_not_negative(caller, learning_rate=learning_rate, trust=trust, weight_decay=weight_decay)
    check_decay_rate(caller, momentum=momentum)

    def init(params: Params) -> MomentumState:
        chosen(caller, where, params)
        return MomentumState(zero_step(), zero_moments(params))

    def update(grads: Params, state: MomentumState, params: Params | None = None) -> tuple[Params, MomentumState]:
        params = params_given(caller, params)
        hyperparameters = values_at(state.step, learning_rate, momentum, trust, weight_decay)

        def leaf(g: Array, v: Array, p: Array, is_chosen: bool) -> tuple[Array, Array]:
            rate, beta, eta, decay = all_in_dtype(v.dtype, *hyperparameters)
            change = g.astype(v.dtype)
            if is_chosen:
                local_rate = trust_ratio(eta, norm(p), norm(g) + decay * norm(p))
                change = local_rate * (change + decay * p.astype(v.dtype))
            v = beta * v + rate * change
            return (-v).astype(g.dtype), v

        given = params, chosen(caller, where, params)
        updates, velocity = map_leaves(caller, leaf, grads, state.velocity, given=given)
        return updates, MomentumState(state.step + 1, velocity)

    return Optimizer(init, update)


def lamb(
    learning_rate: Hyperparameter = 1e-3,
    beta1: Hyperparameter = 0.9,
    beta2: Hyperparameter = 0.999,
    epsilon: Hyperparameter = 1e-6,
    *,
    weight_decay: Hyperparameter = 0.0,
    where: Callable[[str], bool] = is_weight,
) -> Optimizer:
    """Return the optimizer of Adam with a rate for every tensor.

    With Adam's ``m̂`` and ``v̂`` and ``λ = weight_decay``:  ``u = m̂ / (√v̂ + ε) + λ θ``,  ``θ ← θ − α ‖θ‖ / ‖u‖ · u``.

    ``where`` chooses by name the tensors that are scaled and that decay: by default the weights. The others take Adam's
    steps. Where a norm is 0, the ratio is 1. optax scales and decays all tensors.

    Source: You et al. 2020, algorithm 2.
    """
    caller = "optimizers.lamb"
    check_adam(caller, learning_rate, beta1, beta2, epsilon)
    check_not_negative(caller, weight_decay=weight_decay)

    def init(params: Params) -> AdamState:
        chosen(caller, where, params)
        return adam_state(params, beta1, beta2)

    def update(grads: Params, state: AdamState, params: Params | None = None) -> tuple[Params, AdamState]:
        params = params_given(caller, params)
        hyperparameters = values_at(state.step, learning_rate, beta1, beta2, epsilon, weight_decay)
        step, power1, power2 = next_powers(state, beta1, beta2)

        def leaf(g: Array, m: Array, v: Array, p: Array, is_chosen: bool) -> tuple[Array, Array, Array]:
            rate, b1, b2, eps, decay = all_in_dtype(m.dtype, *hyperparameters)
            wide = g.astype(m.dtype)
            m = b1 * m + (1 - b1) * wide
            v = b2 * v + (1 - b2) * jnp.square(wide)
            m_hat = m / total_weight(beta1, power1, step, m.dtype)
            v_hat = v / total_weight(beta2, power2, step, m.dtype)
            u = m_hat / (jnp.sqrt(v_hat) + eps)
            if is_chosen:
                u = u + decay * p.astype(m.dtype)
                u = trust_ratio(1, norm(p), norm(u)) * u
            return (-rate * u).astype(g.dtype), m, v

        given = params, chosen(caller, where, params)
        updates, m, v = map_leaves(caller, leaf, grads, state.m, state.v, given=given)
        return updates, AdamState(step, m, v, power1, power2)

    return Optimizer(init, update)


def trust_ratio(coefficient: Scalar, above: Array, below: Array) -> Array:
    """Return ``coefficient · above / below``, or 1 where one of the norms is 0. NaN stays NaN."""
    unusable = (above == 0) | (below == 0)
    return jnp.where(unusable, 1, coefficient * above / jnp.where(unusable, 1, below))
