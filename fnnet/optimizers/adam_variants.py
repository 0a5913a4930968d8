"""Variants of Adam: a maximum of the variances, Nesterov's momentum, the infinity norm, a rectified variance."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.optimizers.adam import AdamCoefficients, adam_like
from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.bias_correction import log_of, next_log_power, total_weight
from fnnet.optimizers.hyperparameters import check_not_negative, in_dtype, value_at
from fnnet.types import Array, Hyperparameter, Scalar, Schedule


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

    def leaf(c: AdamCoefficients, g: Array, m: Array, v: Array, v_max: Array) -> tuple[Array, ...]:
        m = c.beta1 * m + (1 - c.beta1) * g
        v = c.beta2 * v + (1 - c.beta2) * jnp.square(g)
        v_max = jnp.maximum(v_max, v)
        m_hat, s_hat = m / c.weight1, v_max / c.weight2
        return -c.rate * m_hat / (jnp.sqrt(s_hat) + c.epsilon), m, v, v_max

    return adam_like("optimizers.amsgrad", leaf, learning_rate, beta1, beta2, epsilon, with_maximum=True)


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

    def leaf(c: AdamCoefficients, g: Array, m: Array, v: Array) -> tuple[Array, ...]:
        m = c.beta1 * m + (1 - c.beta1) * g
        v = c.beta2 * v + (1 - c.beta2) * jnp.square(g)
        next_beta1 = in_dtype(value_at(beta1, c.step), m.dtype)
        next_power1 = next_log_power(beta1, c.beta1_power, c.step)
        m_bar = next_beta1 * m / total_weight(beta1, next_power1, c.step + 1, m.dtype) + (1 - c.beta1) * g / c.weight1
        v_hat = v / c.weight2
        return -c.rate * m_bar / (jnp.sqrt(v_hat) + c.epsilon), m, v

    return adam_like("optimizers.nadam", leaf, learning_rate, beta1, beta2, epsilon)


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


def adamax(
    learning_rate: Hyperparameter = 2e-3,
    beta1: Hyperparameter = 0.9,
    beta2: Hyperparameter = 0.999,
    epsilon: Hyperparameter = 1e-8,
) -> Optimizer:
    """Return the optimizer of Adam with the infinity norm in place of the second moment.

    ``m ← β₁ m + (1 − β₁) g``,  ``u ← max(β₂ u, |g| + ε)``,  ``θ ← θ − α / (1 − β₁ᵗ) · m / u``.
    The state holds ``u`` in the place of ``v``.

    The paper has no ``ε``, so it divides 0 by 0 where a gradient was always 0. PyTorch and optax take the same steps as
    this function.

    Source: Kingma and Ba 2015, algorithm 2.
    """

    def leaf(c: AdamCoefficients, g: Array, m: Array, u: Array) -> tuple[Array, ...]:
        m = c.beta1 * m + (1 - c.beta1) * g
        u = jnp.maximum(c.beta2 * u, jnp.abs(g) + c.epsilon)
        m_hat = m / c.weight1
        return -c.rate * m_hat / u, m, u

    return adam_like("optimizers.adamax", leaf, learning_rate, beta1, beta2, epsilon)


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
    check_not_negative("optimizers.radam", threshold=threshold)
    if callable(beta2):
        raise TypeError("optimizers.radam: beta2 is a schedule; expected a number, from which ρ_t is computed")

    def leaf(c: AdamCoefficients, g: Array, m: Array, v: Array) -> tuple[Array, ...]:
        m = c.beta1 * m + (1 - c.beta1) * g
        v = c.beta2 * v + (1 - c.beta2) * jnp.square(g)
        m_hat, v_hat = m / c.weight1, v / c.weight2
        longest = 2 / (1 - c.beta2) - 1
        length = average_length(c.step.astype(m.dtype), log_of(beta2, m.dtype))
        rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        adaptive = length > max(threshold, 4)
        r = jnp.sqrt(jnp.where(adaptive, rectified, 1))
        return -c.rate * jnp.where(adaptive, r * m_hat / (jnp.sqrt(v_hat) + c.epsilon), m_hat), m, v

    return adam_like("optimizers.radam", leaf, learning_rate, beta1, beta2, epsilon)


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
