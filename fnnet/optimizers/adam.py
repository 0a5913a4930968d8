"""Adam, and Adam with decoupled weight decay. The bias correction is in ``bias_correction.py``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer, zero_step
from fnnet.optimizers.bias_correction import LogPower, next_log_power, total_weight, zero_log_power
from fnnet.optimizers.hyperparameters import all_in_dtype, check_decay_rate, check_not_negative, values_at
from fnnet.optimizers.leaves import Choose, chosen, map_moments, zero_moments
from fnnet.paths import Where
from fnnet.types import Array, DType, Hyperparameter, Params, Scalar


class AdamState(NamedTuple):
    """The number of updates, both moments, and the powers of the decay rates that are schedules, () of constants."""

    step: Array
    m: Params
    v: Params
    v_max: Params  # the largest ``v`` of amsgrad; () of the others
    beta1_power: LogPower
    beta2_power: LogPower


class AdamCoefficients(NamedTuple):
    """The numbers in the formula of an update, in the dtype of the moments."""

    rate: Scalar
    beta1: Scalar
    beta2: Scalar
    epsilon: Scalar
    weight_decay: Scalar
    weight1: Array  # 1 − β₁ᵗ
    weight2: Array  # 1 − β₂ᵗ
    step: Array  # t, which counts from 1
    beta1_power: LogPower


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

    def leaf(c: AdamCoefficients, g: Array, m: Array, v: Array) -> tuple[Array, ...]:
        m = c.beta1 * m + (1 - c.beta1) * g
        v = c.beta2 * v + (1 - c.beta2) * jnp.square(g)
        m_hat, v_hat = (m / c.weight1, v / c.weight2) if bias_correction else (m, v)
        return -c.rate * m_hat / (jnp.sqrt(v_hat) + c.epsilon), m, v

    return adam_like("optimizers.adam", leaf, learning_rate, beta1, beta2, epsilon)


def adamw(
    learning_rate: Hyperparameter = 1e-3,
    beta1: Hyperparameter = 0.9,
    beta2: Hyperparameter = 0.999,
    epsilon: Hyperparameter = 1e-8,
    *,
    weight_decay: Hyperparameter = 1e-2,
    where: Where = None,
) -> Optimizer:
    """Return the optimizer of Adam with decoupled weight decay.

    With Adam's ``m̂`` and ``v̂`` and ``λ = weight_decay``:  ``θ ← θ − α (m̂ / (√v̂ + ε) + λ θ)``.

    The decay does not pass through the moments, as the gradient of an L2 penalty does. ``where`` chooses by name the
    parameters that decay: by default those of at least two axes. In PyTorch and optax all parameters decay by
    default. The paper multiplies ``λ`` by the schedule alone; here it is multiplied by the whole rate, as in PyTorch
    and optax.

    Source: Loshchilov and Hutter 2019, algorithm 2.
    """

    def leaf(c: AdamCoefficients, g: Array, m: Array, v: Array, p: Array, decays: bool) -> tuple[Array, ...]:
        m = c.beta1 * m + (1 - c.beta1) * g
        v = c.beta2 * v + (1 - c.beta2) * jnp.square(g)
        m_hat, v_hat = m / c.weight1, v / c.weight2
        direction = m_hat / (jnp.sqrt(v_hat) + c.epsilon)
        if decays:
            direction = direction + c.weight_decay * p
        return -c.rate * direction, m, v

    caller = "optimizers.adamw"
    choose = partial(chosen, caller, where)
    return adam_like(caller, leaf, learning_rate, beta1, beta2, epsilon, weight_decay, choose=choose)


def adam_like(
    caller: str,
    leaf: Callable[..., tuple[Array, ...]],
    learning_rate: Hyperparameter,
    beta1: Hyperparameter,
    beta2: Hyperparameter,
    epsilon: Hyperparameter,
    weight_decay: Hyperparameter = 0.0,
    *,
    choose: Choose | None = None,
    with_maximum: bool = False,
) -> Optimizer:
    """Return the optimizer that applies a formula with Adam's moments to every leaf of the parameters.

    ``leaf(c, g, m, v) -> (update, m, v)`` is the formula, as for ``leafwise``. With ``choose``, the parameter and
    whether it is chosen are two more arguments; with ``with_maximum``, ``v_max`` is one more argument and result.
    """
    check_not_negative(caller, learning_rate=learning_rate, epsilon=epsilon, weight_decay=weight_decay)
    check_decay_rate(caller, beta1=beta1, beta2=beta2)

    def init(params: Params) -> AdamState:
        if choose is not None:
            choose(params)
        m, v, v_max = zero_moments(params), zero_moments(params), zero_moments(params) if with_maximum else ()
        return AdamState(zero_step(), m, v, v_max, zero_log_power(beta1), zero_log_power(beta2))

    def update(grads: Params, state: AdamState, params: Params | None = None) -> tuple[Params, AdamState]:
        values = values_at(state.step, learning_rate, beta1, beta2, epsilon, weight_decay)
        step = state.step + 1
        power1 = next_log_power(beta1, state.beta1_power, state.step)
        power2 = next_log_power(beta2, state.beta2_power, state.step)

        def coefficients(dtype: DType) -> AdamCoefficients:
            rate, b1, b2, eps, decay = all_in_dtype(dtype, *values)
            weight1, weight2 = total_weight(beta1, power1, step, dtype), total_weight(beta2, power2, step, dtype)
            return AdamCoefficients(rate, b1, b2, eps, decay, weight1, weight2, step, power1)

        moments = [state.m, state.v, state.v_max] if with_maximum else [state.m, state.v]
        updates, *after = map_moments(caller, leaf, coefficients, grads, moments, params, choose)
        m, v, v_max = after if with_maximum else (*after, ())
        return updates, AdamState(step, m, v, v_max, power1, power2)

    return Optimizer(init, update, "algorithm")
