"""Adam, and Adam with decoupled weight decay. The bias correction is in ``bias_correction.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer, zero_step
from fnnet.optimizers.bias_correction import LogPower, next_log_power, total_weight, zero_log_power
from fnnet.optimizers.hyperparameters import all_in_dtype, check_decay_rate, check_not_negative, values_at
from fnnet.optimizers.leaves import chosen, map_leaves, params_given, zero_moments
from fnnet.paths import is_weight
from fnnet.types import Array, Hyperparameter, Params


class AdamState(NamedTuple):
    """The number of updates and both moments; the powers of the decay rates that are schedules, () of constants."""

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
    """Return the optimizer of adaptive moment estimation.

    ``m ← β₁ m + (1 − β₁) g``,  ``v ← β₂ v + (1 − β₂) g²``,  ``m̂ = m / (1 − β₁ᵗ)``,  ``v̂ = v / (1 − β₂ᵗ)``,
    ``θ ← θ − α m̂ / (√v̂ + ε)``,  with both moments starting at 0.

    Without ``bias_correction``, ``m̂ = m`` and ``v̂ = v``. The first steps are then larger: the first one is
    ``α (1 − β₁) / √(1 − β₂)`` in every entry, about ``3.2 α`` with the default decay rates.

    Moments of low-precision parameters are float32. If a decay rate is a schedule, the product of its values replaces
    its power. PyTorch and optax take the same steps.

    Source: Kingma and Ba 2015, algorithm 1.
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
    """Return the optimizer of Adam with decoupled weight decay.

    With Adam's ``m̂`` and ``v̂`` and ``λ = weight_decay``:  ``θ ← θ − α (m̂ / (√v̂ + ε) + λ θ)``.

    The decay does not pass through the moments, as the gradient of an L2 penalty does. ``where`` chooses by name the
    parameters that decay: by default the weights, but not the biases. In PyTorch and optax all parameters decay by
    default. The paper multiplies ``λ`` by the schedule alone; here it is multiplied by the whole rate, as in PyTorch
    and optax.

    Source: Loshchilov and Hutter 2019, algorithm 2.
    """
    caller = "optimizers.adamw"
    check_adam(caller, learning_rate, beta1, beta2, epsilon)
    check_not_negative(caller, weight_decay=weight_decay)

    def init(params: Params) -> AdamState:
        chosen(caller, where, params)
        return adam_state(params, beta1, beta2)

    def update(grads: Params, state: AdamState, params: Params | None = None) -> tuple[Params, AdamState]:
        params = params_given(caller, params)
        hyperparameters = values_at(state.step, learning_rate, beta1, beta2, epsilon, weight_decay)
        step, power1, power2 = next_powers(state, beta1, beta2)

        def leaf(g: Array, m: Array, v: Array, p: Array, decays: bool) -> tuple[Array, Array, Array]:
            rate, b1, b2, eps, decay = all_in_dtype(m.dtype, *hyperparameters)
            wide = g.astype(m.dtype)
            m = b1 * m + (1 - b1) * wide
            v = b2 * v + (1 - b2) * jnp.square(wide)
            m_hat = m / total_weight(beta1, power1, step, m.dtype)
            v_hat = v / total_weight(beta2, power2, step, m.dtype)
            direction = m_hat / (jnp.sqrt(v_hat) + eps)
            if decays:
                direction = direction + decay * p.astype(m.dtype)
            return (-rate * direction).astype(g.dtype), m, v

        given = params, chosen(caller, where, params)
        updates, m, v = map_leaves(caller, leaf, grads, state.m, state.v, given=given)
        return updates, AdamState(step, m, v, power1, power2)

    return Optimizer(init, update)


def check_adam(
    caller: str, learning_rate: Hyperparameter, beta1: Hyperparameter, beta2: Hyperparameter, epsilon: Hyperparameter
) -> None:
    check_not_negative(caller, learning_rate=learning_rate, epsilon=epsilon)
    check_decay_rate(caller, beta1=beta1, beta2=beta2)


def adam_state(params: Params, beta1: Hyperparameter, beta2: Hyperparameter) -> AdamState:
    """Return the state before the first update."""
    m, v = zero_moments(params), zero_moments(params)
    return AdamState(zero_step(), m, v, zero_log_power(beta1), zero_log_power(beta2))


def next_powers(state: AdamState, beta1: Hyperparameter, beta2: Hyperparameter) -> tuple[Array, LogPower, LogPower]:
    """Return the number of updates, this one included, and the powers of both decay rates after it."""
    power1 = next_log_power(beta1, state.beta1_power, state.step)
    power2 = next_log_power(beta2, state.beta2_power, state.step)
    return state.step + 1, power1, power2
