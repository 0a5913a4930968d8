"""The bias correction of Adam and its variants, for decay rates that are numbers or schedules.

A moving average ``m ← β m + (1 − β) g`` that starts at 0 gives the gradients the total weight ``1 − β₁ β₂ ... βₜ``
after ``t`` updates, which is ``1 − βᵗ`` for a constant ``β``. Adam divides its averages by this weight. A constant
``β`` needs no memory for it; for a schedule, the state of the optimizer carries ``log Π βᵢ``.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import jax.numpy as jnp

from fnnet.types import Array, DType, Hyperparameter, Scalar

LogPower: TypeAlias = Any  # log Π βᵢ, a scalar array, of a schedule; () of a constant


def zero_log_power(beta: Hyperparameter) -> LogPower:
    return jnp.zeros(()) if callable(beta) else ()


def next_log_power(beta: Hyperparameter, log_power: LogPower, step: Array) -> LogPower:
    """Return the logarithm of the power after update number ``step``, which counts from 0."""
    return log_power + log_of(beta(step), log_power.dtype) if callable(beta) else ()


def total_weight(beta: Hyperparameter, log_power: LogPower, updates: Array, dtype: DType) -> Array:
    """Return ``1 − βᵗ`` after ``t`` updates, or ``1 − Π βᵢ`` if ``beta`` is a schedule.

    It is computed as ``−expm1(t log β)``, because ``1 − 0.999`` in float32 is wrong from the fifth digit on.
    """
    if callable(beta):
        return -jnp.expm1(jnp.asarray(log_power).astype(dtype))
    return -jnp.expm1(updates.astype(dtype) * log_of(beta, dtype))


def log_of(beta: Scalar, dtype: DType) -> Scalar:
    """Return ``log β``. The logarithm of a Python number is taken before any digit is lost to float32."""
    if isinstance(beta, (int, float)):
        return math.log(beta) if beta > 0 else -math.inf
    return jnp.log(jnp.asarray(beta).astype(dtype))
