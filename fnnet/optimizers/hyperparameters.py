"""Hyper-parameters: numbers, traced arrays or schedules, their values at a step and their checks."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import jax.numpy as jnp

from fnnet import checks
from fnnet.types import Array, DType, Hyperparameter, Scalar


def value_at(hyperparameter: Hyperparameter, step: Array) -> Scalar:
    """A hyper-parameter's value at ``step``: of a schedule, its value there; else the number itself."""
    if not callable(hyperparameter):
        return hyperparameter
    value = hyperparameter(step)
    if jnp.shape(value) != ():
        raise ValueError(f"optimizers: a schedule gave an array of shape {jnp.shape(value)}; expected one number")
    return value


def values_at(step: Array, *hyperparameters: Hyperparameter) -> tuple[Scalar, ...]:
    return tuple(value_at(hyperparameter, step) for hyperparameter in hyperparameters)


def in_dtype(value: Scalar, dtype: DType) -> Scalar:
    """A scalar that multiplies arrays of ``dtype`` without promoting them. Python numbers do so as they are.

    ``np.float64`` is a Python float, but to jax a strongly typed array: hence ``float``.
    """
    return float(value) if isinstance(value, (int, float)) else jnp.asarray(value).astype(dtype)


def all_in_dtype(dtype: DType, *values: Scalar) -> tuple[Scalar, ...]:
    return tuple(in_dtype(value, dtype) for value in values)


def check_scalar(place: str, name: str, value: Hyperparameter) -> None:
    """An array of rates would be broadcast over the entries of a parameter."""
    if not callable(value) and jnp.shape(value) != ():
        raise ValueError(
            f"{place}: {name} has shape {jnp.shape(value)}; expected one number: use jax.vmap to try several at once"
        )


def check_rate(place: str, learning_rate: Hyperparameter) -> None:
    check_not_negative(place, learning_rate=learning_rate)


def check_not_negative(place: str, **hyperparameters: Hyperparameter) -> None:
    for name, value in hyperparameters.items():
        check_scalar(place, name, value)
        checks.in_range(place, name, value, 0, float("inf"), open_high=True)


def check_decay(place: str, **hyperparameters: Hyperparameter) -> None:
    """Weights of a moving average, in ``[0, 1)``: with 1 it would never move."""
    for name, value in hyperparameters.items():
        check_scalar(place, name, value)
        checks.in_range(place, name, value, 0, 1, open_high=True)


# Moving averages ``m ← β m + (1 − β) g`` from 0 weigh the gradients by 1 − β₁ ... βₜ in all, 1 − βᵗ for a constant β.
# A constant needs no memory for that; for a schedule the state carries log Π βᵢ.

LogPower: TypeAlias = Any  # a scalar array of a schedule's, () of a constant's


def zero_log_power(beta: Hyperparameter) -> LogPower:
    return jnp.zeros(()) if callable(beta) else ()


def next_log_power(beta: Hyperparameter, log_power: LogPower, step: Array) -> LogPower:
    """The state after the update number ``step``, counted from 0."""
    return log_power + log_of(beta(step), log_power.dtype) if callable(beta) else ()


def total_weight(beta: Hyperparameter, log_power: LogPower, updates: Array, dtype: DType) -> Array:
    """``1 − βᵗ`` after ``t`` updates, as ``−expm1(t log β)``: in float32 ``1 − 0.999`` is wrong from the fifth digit.

    Of a schedule, ``1 − Π βᵢ``: a power of its present value would be another number.
    """
    if callable(beta):
        return -jnp.expm1(jnp.asarray(log_power).astype(dtype))
    return -jnp.expm1(updates.astype(dtype) * log_of(beta, dtype))


def log_of(beta: Scalar, dtype: DType) -> Scalar:
    """``log β``, of a Python number to all its digits: rounded to float32, that of 0.999 is wrong in the fifth."""
    if isinstance(beta, (int, float)):
        return math.log(beta) if beta > 0 else -math.inf
    return jnp.log(jnp.asarray(beta).astype(dtype))
