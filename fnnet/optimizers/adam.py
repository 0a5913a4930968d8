"""Adam, and Adam with decoupled weight decay or with a long memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import (
    LogPower,
    all_in_dtype,
    check_decay,
    check_not_negative,
    check_rate,
    next_log_power,
    total_weight,
    values_at,
    zero_log_power,
)
from fnnet.optimizers.leaves import chosen, map_leaves, params_given, zero_moments, zero_step
from fnnet.paths import is_weight
from fnnet.types import Array, Hyperparameter, Params


class AdamState(NamedTuple):
    """Moments of the gradients. The powers are those of betas that are schedules, and () for numbers."""

    step: Array
    m: Params
    v: Params
    beta1_power: LogPower
    beta2_power: LogPower


def adam(
    learning_rate: Hyperparameter = 1e-3,
    beta1: Hyperparameter = 0.9,
    beta2: Hyperparameter = 0.999,
    epsilon: Hyperparameter = 1e-8,
    *,
    bias_correction: bool = True,
) -> Optimizer:
    """Adaptive moment estimation (Kingma and Ba 2015, algorithm 1).

    ``m ← β₁ m + (1 − β₁) g``,  ``v ← β₂ v + (1 − β₂) g²``,  ``m̂ = m / (1 − β₁ᵗ)``,  ``v̂ = v / (1 − β₂ᵗ)``,
    ``θ ← θ − α m̂ / (√v̂ + ε)``.  Without ``bias_correction``, ``m̂ = m`` and ``v̂ = v``: the first steps are then larger,
    the first one ``α (1 − β₁) / √(1 − β₂)``, about ``3.2 α`` at the defaults, in each coordinate.

    Both moments start at 0; those of low-precision parameters are float32. Where a ``β`` is a schedule, the product of
    its values stands for ``βᵗ``. PyTorch's and optax's are the same.
    """
    check_adam("optimizers.adam", learning_rate, beta1, beta2, epsilon)

    def update(grads: Params, state: AdamState, params: Params | None = None) -> tuple[Params, AdamState]:
        hyperparameters = values_at(state.step, learning_rate, beta1, beta2, epsilon)
        step, power1, power2 = next_powers(state, beta1, beta2)

        def leaf(g: Array, m: Array, v: Array) -> tuple[Array, Array, Array]:
            rate, b1, b2, eps = all_in_dtype(m.dtype, *hyperparameters)
            wide = g.astype(m.dtype)
            m = b1 * m + (1 - b1) * wide
            v = b2 * v + (1 - b2) * jnp.square(wide)
            m_hat, v_hat = m, v
            if bias_correction:
                m_hat = m / total_weight(beta1, power1, step, m.dtype)
                v_hat = v / total_weight(beta2, power2, step, m.dtype)
            return (-rate * m_hat / (jnp.sqrt(v_hat) + eps)).astype(g.dtype), m, v

        updates, m, v = map_leaves("optimizers.adam", leaf, grads, state.m, state.v)
        return updates, AdamState(step, m, v, power1, power2)

    return Optimizer(lambda params: adam_state(params, beta1, beta2), update)


def adamw(
    learning_rate: Hyperparameter = 1e-3,
    beta1: Hyperparameter = 0.9,
    beta2: Hyperparameter = 0.999,
    epsilon: Hyperparameter = 1e-8,
    *,
    weight_decay: Hyperparameter = 1e-2,
    where: Callable[[str], bool] = is_weight,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    With Adam's ``m̂`` and ``v̂``:  ``θ ← θ − α (m̂ / (√v̂ + ε) + λ θ)``,  ``λ = weight_decay``.

    The decay does not pass through the moments, as an L2 penalty's gradient would. ``where`` chooses by name what
    decays, by default the weights and not the biases; in PyTorch and optax all parameters decay unless told otherwise.
    The paper multiplies ``λ`` by the schedule alone; here, as there, it is multiplied by the whole rate.
    """
    place = "optimizers.adamw"
    check_adam(place, learning_rate, beta1, beta2, epsilon)
    check_not_negative(place, weight_decay=weight_decay)

    def init(params: Params) -> AdamState:
        chosen(place, where, params)
        return adam_state(params, beta1, beta2)

    def update(grads: Params, state: AdamState, params: Params | None = None) -> tuple[Params, AdamState]:
        hyperparameters = values_at(state.step, learning_rate, beta1, beta2, epsilon, weight_decay)
        step, power1, power2 = next_powers(state, beta1, beta2)

        def leaf(g: Array, m: Array, v: Array, p: Array, decays: bool) -> tuple[Array, Array, Array]:
            rate, b1, b2, eps, decay = all_in_dtype(m.dtype, *hyperparameters)
            wide = g.astype(m.dtype)
            m = b1 * m + (1 - b1) * wide
            v = b2 * v + (1 - b2) * jnp.square(wide)
            m_hat = m / total_weight(beta1, power1, step, m.dtype)
            v_hat = v / total_weight(beta2, power2, step, m.dtype)
            change = m_hat / (jnp.sqrt(v_hat) + eps)
            if decays:
                change = change + decay * p.astype(m.dtype)
            return (-rate * change).astype(g.dtype), m, v

        params = params_given(place, params)
        mask = chosen(place, where, params)
        updates, m, v = map_leaves(place, leaf, grads, state.m, state.v, given=(params, mask))
        return updates, AdamState(step, m, v, power1, power2)

    return Optimizer(init, update)


class AmsgradState(NamedTuple):
    step: Array
    m: Params
    v: Params
    v_max: Params
    beta1_power: LogPower
    beta2_power: LogPower


def amsgrad(
    learning_rate: Hyperparameter = 1e-3,
    beta1: Hyperparameter = 0.9,
    beta2: Hyperparameter = 0.999,
    epsilon: Hyperparameter = 1e-8,
) -> Optimizer:
    """Adam whose rates never grow (Reddi, Kale and Kumar 2018, algorithm 2), with Adam's bias correction.

    With Adam's ``m``, ``m̂`` and ``v``:  ``s ← max(s, v)``,  ``ŝ = s / (1 − β₂ᵗ)``,  ``θ ← θ − α m̂ / (√ŝ + ε)``.

    All start at 0. This is PyTorch's form. The paper corrects no bias; optax takes the maximum of the corrected ``v̂``.
    """
    check_adam("optimizers.amsgrad", learning_rate, beta1, beta2, epsilon)

    def init(params: Params) -> AmsgradState:
        step, m, v, power1, power2 = adam_state(params, beta1, beta2)
        return AmsgradState(step, m, v, zero_moments(params), power1, power2)

    def update(grads: Params, state: AmsgradState, params: Params | None = None) -> tuple[Params, AmsgradState]:
        hyperparameters = values_at(state.step, learning_rate, beta1, beta2, epsilon)
        step, power1, power2 = next_powers(state, beta1, beta2)

        def leaf(g: Array, m: Array, v: Array, v_max: Array) -> tuple[Array, Array, Array, Array]:
            rate, b1, b2, eps = all_in_dtype(m.dtype, *hyperparameters)
            wide = g.astype(m.dtype)
            m = b1 * m + (1 - b1) * wide
            v = b2 * v + (1 - b2) * jnp.square(wide)
            v_max = jnp.maximum(v_max, v)
            m_hat = m / total_weight(beta1, power1, step, m.dtype)
            s_hat = v_max / total_weight(beta2, power2, step, m.dtype)
            return (-rate * m_hat / (jnp.sqrt(s_hat) + eps)).astype(g.dtype), m, v, v_max

        updates, m, v, v_max = map_leaves("optimizers.amsgrad", leaf, grads, state.m, state.v, state.v_max)
        return updates, AmsgradState(step, m, v, v_max, power1, power2)

    return Optimizer(init, update)


def check_adam(
    place: str, learning_rate: Hyperparameter, beta1: Hyperparameter, beta2: Hyperparameter, epsilon: Hyperparameter
) -> None:
    check_rate(place, learning_rate)
    check_decay(place, beta1=beta1, beta2=beta2)
    check_not_negative(place, epsilon=epsilon)


def adam_state(params: Params, beta1: Hyperparameter, beta2: Hyperparameter) -> AdamState:
    """Both moments and the number of updates at 0."""
    m, v = zero_moments(params), zero_moments(params)
    return AdamState(zero_step(), m, v, zero_log_power(beta1), zero_log_power(beta2))


def next_powers(
    state: AdamState | AmsgradState, beta1: Hyperparameter, beta2: Hyperparameter
) -> tuple[Array, LogPower, LogPower]:
    """The number of updates with this one, and the powers of the betas after it."""
    power1 = next_log_power(beta1, state.beta1_power, state.step)
    power2 = next_log_power(beta2, state.beta2_power, state.step)
    return state.step + 1, power1, power2
