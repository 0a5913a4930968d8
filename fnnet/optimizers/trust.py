"""Layer-wise rates from trust ratios: how long a step may be, measured by the length of what it changes."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from fnnet.optimizers.adam import AdamState, adam_state, check_adam, next_powers
from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import (
    all_in_dtype,
    check_decay,
    check_not_negative,
    check_rate,
    total_weight,
    values_at,
)
from fnnet.optimizers.leaves import chosen, map_leaves, norm, params_given, zero_moments, zero_step
from fnnet.optimizers.momentum import MomentumState
from fnnet.paths import is_weight
from fnnet.types import Array, Hyperparameter, Params, Scalar


def lars(
    learning_rate: Hyperparameter,
    beta: Hyperparameter = 0.9,
    *,
    trust: Hyperparameter = 1e-3,
    weight_decay: Hyperparameter = 0.0,
    where: Callable[[str], bool] = is_weight,
) -> Optimizer:
    """Momentum with a rate for every tensor (You, Gitman and Ginsburg 2017, algorithm 1).

    ``λ = η ‖θ‖ / (‖g‖ + ω ‖θ‖)``,  ``v ← β v + α λ (g + ω θ)``,  ``θ ← θ − v``;  ``η = trust``, ``ω = weight_decay``.

    ``where`` chooses by name the tensors that are scaled and decay, by default the weights; for the others, and where a
    norm is 0, ``λ = 1``. optax has the norm of ``g + ω θ`` in the denominator; without decay that is the same.
    """
    place = "optimizers.lars"
    check_rate(place, learning_rate)
    check_decay(place, beta=beta)
    check_not_negative(place, trust=trust, weight_decay=weight_decay)

    def init(params: Params) -> MomentumState:
        chosen(place, where, params)
        return MomentumState(zero_step(), zero_moments(params))

    def update(grads: Params, state: MomentumState, params: Params | None = None) -> tuple[Params, MomentumState]:
        hyperparameters = values_at(state.step, learning_rate, beta, trust, weight_decay)

        def leaf(g: Array, v: Array, p: Array, scaled: bool) -> tuple[Array, Array]:
            rate, b, eta, decay = all_in_dtype(v.dtype, *hyperparameters)
            change = g.astype(v.dtype)
            if scaled:
                lengths = norm(p), norm(g) + decay * norm(p)
                change = ratio(eta, *lengths) * (change + decay * p.astype(v.dtype))
            v = b * v + rate * change
            return (-v).astype(g.dtype), v

        params = params_given(place, params)
        mask = chosen(place, where, params)
        updates, velocity = map_leaves(place, leaf, grads, state.velocity, given=(params, mask))
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
    """Adam with a rate for every tensor (You et al. 2020, algorithm 2).

    With Adam's ``m̂`` and ``v̂``:  ``u = m̂ / (√v̂ + ε) + λ θ``,  ``θ ← θ − α ‖θ‖ / ‖u‖ · u``,  ``λ = weight_decay``.

    ``where`` chooses by name the tensors that are scaled and decay, by default the weights; for the others, and where a
    norm is 0, the ratio is 1. optax scales and decays all of them.
    """
    place = "optimizers.lamb"
    check_adam(place, learning_rate, beta1, beta2, epsilon)
    check_not_negative(place, weight_decay=weight_decay)

    def init(params: Params) -> AdamState:
        chosen(place, where, params)
        return adam_state(params, beta1, beta2)

    def update(grads: Params, state: AdamState, params: Params | None = None) -> tuple[Params, AdamState]:
        hyperparameters = values_at(state.step, learning_rate, beta1, beta2, epsilon, weight_decay)
        step, power1, power2 = next_powers(state, beta1, beta2)

        def leaf(g: Array, m: Array, v: Array, p: Array, scaled: bool) -> tuple[Array, Array, Array]:
            rate, b1, b2, eps, decay = all_in_dtype(m.dtype, *hyperparameters)
            wide = g.astype(m.dtype)
            m = b1 * m + (1 - b1) * wide
            v = b2 * v + (1 - b2) * jnp.square(wide)
            m_hat = m / total_weight(beta1, power1, step, m.dtype)
            v_hat = v / total_weight(beta2, power2, step, m.dtype)
            u = m_hat / (jnp.sqrt(v_hat) + eps)
            if scaled:
                u = u + decay * p.astype(m.dtype)
                u = ratio(1, norm(p), norm(u)) * u
            return (-rate * u).astype(g.dtype), m, v

        params = params_given(place, params)
        mask = chosen(place, where, params)
        updates, m, v = map_leaves(place, leaf, grads, state.m, state.v, given=(params, mask))
        return updates, AdamState(step, m, v, power1, power2)

    return Optimizer(init, update)


def ratio(factor: Scalar, above: Array, below: Array) -> Array:
    """``factor · above / below``, 1 where either is 0; NaN where either is."""
    unusable = (above == 0) | (below == 0)
    return jnp.where(unusable, 1, factor * above / jnp.where(unusable, 1, below))
