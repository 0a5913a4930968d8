"""Adam."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers.base import Optimizer, check_rate, in_dtype, value_at, zero_moments, zero_step
from fnnet.types import Array, DType, Hyperparameter, Params, Scalar


class AdamState(NamedTuple):
    step: Array
    m: Params
    v: Params


def adam(
    learning_rate: Hyperparameter = 1e-3,
    beta1: Scalar = 0.9,
    beta2: Scalar = 0.999,
    epsilon: Scalar = 1e-8,
    *,
    bias_correction: bool = True,
) -> Optimizer:
    """Adaptive moment estimation (Kingma and Ba 2015, algorithm 1).

    ``m ← β₁ m + (1 − β₁) g``,  ``v ← β₂ v + (1 − β₂) g²``,  ``m̂ = m / (1 − β₁ᵗ)``,  ``v̂ = v / (1 − β₂ᵗ)``,
    ``θ ← θ − α m̂ / (√v̂ + ε)``.  Without ``bias_correction``, ``m̂ = m`` and ``v̂ = v``: the first steps are then larger,
    the first one ``α (1 − β₁) / √(1 − β₂)``, about ``3.2 α`` at the defaults, in each coordinate.

    Both moments start at 0; those of low-precision parameters are float32.
    """
    check_rate("optimizers.adam", learning_rate)
    checks.in_range("optimizers.adam", "beta1", beta1, 0, 1, open_high=True)
    checks.in_range("optimizers.adam", "beta2", beta2, 0, 1, open_high=True)
    checks.in_range("optimizers.adam", "epsilon", epsilon, 0, float("inf"), open_high=True)

    def init(params: Params) -> AdamState:
        return AdamState(zero_step(), zero_moments(params), zero_moments(params))

    def update(grads: Params, state: AdamState, params: Params | None = None) -> tuple[Params, AdamState]:
        rate = value_at(learning_rate, state.step)
        step = state.step + 1

        def first_moment(m: Array, g: Array) -> Array:
            return in_dtype(beta1, m.dtype) * m + in_dtype(1 - beta1, m.dtype) * g.astype(m.dtype)

        def second_moment(v: Array, g: Array) -> Array:
            return in_dtype(beta2, v.dtype) * v + in_dtype(1 - beta2, v.dtype) * jnp.square(g.astype(v.dtype))

        def change(m: Array, v: Array, g: Array) -> Array:
            if bias_correction:
                m = m / one_minus_power(beta1, step, m.dtype)
                v = v / one_minus_power(beta2, step, v.dtype)
            return (-in_dtype(rate, m.dtype) * m / (jnp.sqrt(v) + in_dtype(epsilon, v.dtype))).astype(g.dtype)

        m = jax.tree.map(first_moment, state.m, grads)
        v = jax.tree.map(second_moment, state.v, grads)
        return jax.tree.map(change, m, v, grads), AdamState(step, m, v)

    return Optimizer(init, update)


def one_minus_power(beta: Scalar, step: Array, dtype: DType) -> Array:
    """``1 − βᵗ`` as ``−expm1(t log β)``: in float32 ``1 − 0.999¹`` itself is wrong from the fifth digit."""
    t = step.astype(dtype)
    if isinstance(beta, (int, float)):
        return -jnp.expm1(t * math.log(beta)) if beta > 0 else jnp.ones_like(t)
    return -jnp.expm1(t * jnp.log(jnp.asarray(beta).astype(dtype)))
