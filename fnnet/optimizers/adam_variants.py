"""Variants of Adam: a maximum of the variances, Nesterov's momentum, the infinity norm, a rectified variance."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fnnet.optimizers.adam import AdamState, adam_state, check_adam, next_powers
from fnnet.optimizers.base import Optimizer, zero_step
from fnnet.optimizers.bias_correction import LogPower, log_of, next_log_power, total_weight, zero_log_power
from fnnet.optimizers.hyperparameters import all_in_dtype, check_not_negative, in_dtype, value_at, values_at
from fnnet.optimizers.leaves import map_leaves, zero_moments
from fnnet.types import Array, Hyperparameter, Params, Scalar, Schedule


class AmsgradState(NamedTuple):
    adam: AdamState
    v_max: Params


def amsgrad(
    learning_rate: Hyperparameter = 1e-3,
    beta1: Hyperparameter = 0.9,
    beta2: Hyperparameter = 0.999,
    epsilon: Hyperparameter = 1e-8,
) -> Optimizer:
    """Return the optimizer of Adam with the largest ``v`` so far, with Adam's bias correction.

    With Adam's ``m``, ``m̂`` and ``v``:  ``s ← max(s, v)``,  ``ŝ = s / (1 − β₂ᵗ)``,  ``θ ← θ − α m̂ / (√ŝ + ε)``.
    All moments and ``s`` start at 0.

    This is PyTorch's form. The paper corrects no bias; optax takes the maximum of the corrected ``v̂``.

    Source: Reddi, Kale and Kumar 2018, algorithm 2.
    """
    check_adam("optimizers.amsgrad", learning_rate, beta1, beta2, epsilon)

    def init(params: Params) -> AmsgradState:
        return AmsgradState(adam_state(params, beta1, beta2), zero_moments(params))

    def update(grads: Params, state: AmsgradState, params: Params | None = None) -> tuple[Params, AmsgradState]:
        hyperparameters = values_at(state.adam.step, learning_rate, beta1, beta2, epsilon)
        step, power1, power2 = next_powers(state.adam, beta1, beta2)

        def leaf(g: Array, m: Array, v: Array, v_max: Array) -> tuple[Array, Array, Array, Array]:
            rate, b1, b2, eps = all_in_dtype(m.dtype, *hyperparameters)
            wide = g.astype(m.dtype)
            m = b1 * m + (1 - b1) * wide
            v = b2 * v + (1 - b2) * jnp.square(wide)
            v_max = jnp.maximum(v_max, v)
            m_hat = m / total_weight(beta1, power1, step, m.dtype)
            s_hat = v_max / total_weight(beta2, power2, step, m.dtype)
            return (-rate * m_hat / (jnp.sqrt(s_hat) + eps)).astype(g.dtype), m, v, v_max

        updates, m, v, v_max = map_leaves("optimizers.amsgrad", leaf, grads, state.adam.m, state.adam.v, state.v_max)
        return updates, AmsgradState(AdamState(step, m, v, power1, power2), v_max)

    return Optimizer(init, update)


def nadam(
    learning_rate: Hyperparameter = 1e-3,
    beta1: Hyperparameter = 0.9,
    beta2: Hyperparameter = 0.999,
    epsilon: Hyperparameter = 1e-8,
) -> Optimizer:
    """Return the optimizer of Adam with Nesterov's momentum.

    With Adam's ``m``, ``v`` and ``v̂``, and ``Π_t`` the product of the first ``t`` values of ``β₁``:
    ``m̄ = β₁₍ₜ₊₁₎ m / (1 − Π_{t+1}) + (1 − β₁₍ₜ₎) g / (1 − Π_t)``,  ``θ ← θ − α m̄ / (√v̂ + ε)``.

    With a constant ``β₁`` the steps are those of optax. In the paper ``β₁`` grows: ``beta1=nadam_momentum(0.9)``. In
    PyTorch it grows too, but not in the average ``m``; ``momentum_decay=1e9`` makes it constant there, and the steps
    equal.

    Source: Dozat 2016, algorithm 2.
    """
    check_adam("optimizers.nadam", learning_rate, beta1, beta2, epsilon)

    def update(grads: Params, state: AdamState, params: Params | None = None) -> tuple[Params, AdamState]:
        hyperparameters = values_at(state.step, learning_rate, beta1, beta2, epsilon)
        step, power1, power2 = next_powers(state, beta1, beta2)
        next_beta1, next_power1 = value_at(beta1, step), next_log_power(beta1, power1, step)

        def leaf(g: Array, m: Array, v: Array) -> tuple[Array, Array, Array]:
            rate, b1, b2, eps = all_in_dtype(m.dtype, *hyperparameters)
            wide = g.astype(m.dtype)
            m = b1 * m + (1 - b1) * wide
            v = b2 * v + (1 - b2) * jnp.square(wide)
            m_bar = in_dtype(next_beta1, m.dtype) * m / total_weight(beta1, next_power1, step + 1, m.dtype)
            m_bar = m_bar + (1 - b1) * wide / total_weight(beta1, power1, step, m.dtype)
            v_hat = v / total_weight(beta2, power2, step, m.dtype)
            return (-rate * m_bar / (jnp.sqrt(v_hat) + eps)).astype(g.dtype), m, v

        updates, m, v = map_leaves("optimizers.nadam", leaf, grads, state.m, state.v)
        return updates, AdamState(step, m, v, power1, power2)

    return Optimizer(lambda params: adam_state(params, beta1, beta2), update)


def nadam_momentum(beta1: float = 0.9, momentum_decay: float = 4e-3) -> Schedule:
    """Return Dozat's schedule of ``beta1`` for ``nadam``.

    ``μ_t = β₁ (1 − ½ · 0.96^(ψ t))`` grows from about ``β₁ / 2`` to ``β₁``; ``t`` counts from 1 and
    ``ψ = momentum_decay``, which is 1/250 in the paper.

    Source: Dozat 2016, section 2.2.
    """

    def schedule(step: Array) -> Array:
        t = jnp.asarray(step).astype(jnp.result_type(float)) + 1
        return beta1 * (1 - 0.5 * jnp.power(0.96, momentum_decay * t))

    return schedule


class AdamaxState(NamedTuple):
    step: Array
    m: Params
    u: Params  # the decaying maximum of the gradients' sizes
    beta1_power: LogPower


def adamax(
    learning_rate: Hyperparameter = 2e-3,
    beta1: Hyperparameter = 0.9,
    beta2: Hyperparameter = 0.999,
    epsilon: Hyperparameter = 1e-8,
) -> Optimizer:
    """Return the optimizer of Adam with the infinity norm in place of the second moment.

    ``m ← β₁ m + (1 − β₁) g``,  ``u ← max(β₂ u, |g| + ε)``,  ``θ ← θ − α / (1 − β₁ᵗ) · m / u``.

    The paper has no ``ε``, so it divides 0 by 0 where a gradient was always 0. PyTorch and optax take the same steps as
    this function.

    Source: Kingma and Ba 2015, algorithm 2.
    """
    check_adam("optimizers.adamax", learning_rate, beta1, beta2, epsilon)

    def init(params: Params) -> AdamaxState:
        return AdamaxState(zero_step(), zero_moments(params), zero_moments(params), zero_log_power(beta1))

    def update(grads: Params, state: AdamaxState, params: Params | None = None) -> tuple[Params, AdamaxState]:
        hyperparameters = values_at(state.step, learning_rate, beta1, beta2, epsilon)
        step, power1 = state.step + 1, next_log_power(beta1, state.beta1_power, state.step)

        def leaf(g: Array, m: Array, u: Array) -> tuple[Array, Array, Array]:
            rate, b1, b2, eps = all_in_dtype(m.dtype, *hyperparameters)
            wide = g.astype(m.dtype)
            m = b1 * m + (1 - b1) * wide
            u = jnp.maximum(b2 * u, jnp.abs(wide) + eps)
            m_hat = m / total_weight(beta1, power1, step, m.dtype)
            return (-rate * m_hat / u).astype(g.dtype), m, u

        updates, m, u = map_leaves("optimizers.adamax", leaf, grads, state.m, state.u)
        return updates, AdamaxState(step, m, u, power1)

    return Optimizer(init, update)


def radam(
    learning_rate: Hyperparameter = 1e-3,
    beta1: Hyperparameter = 0.9,
    beta2: float = 0.999,
    epsilon: Hyperparameter = 1e-8,
    *,
    threshold: float = 5.0,
) -> Optimizer:
    """Return the optimizer of Adam with a rectified variance of its rates.

    With Adam's ``m̂`` and ``v̂``, ``ρ∞ = 2 / (1 − β₂) − 1`` and ``ρ_t = ρ∞ − 2 t β₂ᵗ / (1 − β₂ᵗ)``:

    - ``θ ← θ − α m̂``  while ``ρ_t ≤ threshold``;
    - ``θ ← θ − α r m̂ / (√v̂ + ε)``  afterwards, with ``r = √((ρ_t − 4) (ρ_t − 2) ρ∞ / ((ρ∞ − 4) (ρ∞ − 2) ρ_t))``.

    ``ρ_t`` is the length of the average in ``v̂``. While that average holds few gradients, its inverse varies too much
    to divide by. The threshold is 4 in the paper, where ``r`` is 0, and 5 in PyTorch and optax. optax takes the same
    steps; PyTorch adds ``ε`` to ``√v`` before the bias is corrected. ``beta2`` must be a number.

    Source: Liu et al. 2020, algorithm 2.
    """
    check_adam("optimizers.radam", learning_rate, beta1, beta2, epsilon)
    check_not_negative("optimizers.radam", threshold=threshold)
    if callable(beta2):
        raise TypeError("optimizers.radam: beta2 is a schedule; expected a number, from which ρ_t is computed")

    def update(grads: Params, state: AdamState, params: Params | None = None) -> tuple[Params, AdamState]:
        hyperparameters = values_at(state.step, learning_rate, beta1, beta2, epsilon)
        step, power1, power2 = next_powers(state, beta1, beta2)

        def leaf(g: Array, m: Array, v: Array) -> tuple[Array, Array, Array]:
            rate, b1, b2, eps = all_in_dtype(m.dtype, *hyperparameters)
            wide = g.astype(m.dtype)
            m = b1 * m + (1 - b1) * wide
            v = b2 * v + (1 - b2) * jnp.square(wide)
            m_hat = m / total_weight(beta1, power1, step, m.dtype)
            v_hat = v / total_weight(beta2, power2, step, m.dtype)
            longest = 2 / (1 - b2) - 1
            length = average_length(step.astype(m.dtype), log_of(beta2, m.dtype))
            rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            adaptive = length > max(threshold, 4)
            r = jnp.sqrt(jnp.where(adaptive, rectified, 1))
            direction = jnp.where(adaptive, r * m_hat / (jnp.sqrt(v_hat) + eps), m_hat)
            return (-rate * direction).astype(g.dtype), m, v

        updates, m, v = map_leaves("optimizers.radam", leaf, grads, state.m, state.v)
        return updates, AdamState(step, m, v, power1, power2)

    return Optimizer(lambda params: adam_state(params, beta1, beta2), update)


def average_length(t: Array, log_beta: Scalar) -> Array:
    """Return ``ρ_t`` of ``radam``, a small difference of large numbers, without the cancellation.

    With ``L = −log β`` and ``h(y) = coth(y/2) − 2/y``, we have ``ρ∞ = 2/L + h(L)`` and
    ``2 t βᵗ / (1 − βᵗ) = 2/L + t h(tL) − t``. Hence ``ρ_t = t + h(L) − t h(tL)``.
    """

    def h(y: Array) -> Array:
        square = jnp.square(y)
        inner = 1 - square / 42 * (1 - square / 40 * (1 - 5 * square / 198))
        return jnp.where(y < 0.25, y / 6 * (1 - square / 60 * inner), 1 / jnp.tanh(y / 2) - 2 / y)

    rate = jnp.asarray(-log_beta).astype(t.dtype)
    return t + h(rate) - t * h(t * rate)
