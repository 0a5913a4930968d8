"""Hyper-parameters, which are numbers, traced arrays or schedules: their values at a step, and their checks."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.checks import in_dtype as in_dtype
from fnnet.types import Array, DType, Hyperparameter, Scalar


def value_at(hyperparameter: Hyperparameter, step: Array) -> Scalar:
    """Return the value of a hyper-parameter at ``step``: a schedule is called, a number is returned as it is."""
    if not callable(hyperparameter):
        return hyperparameter
    value = hyperparameter(step)
    if jnp.shape(value) != ():
        raise ValueError(f"optimizers: a schedule gave an array of shape {jnp.shape(value)}; expected one number")
    return value


def values_at(step: Array, *hyperparameters: Hyperparameter) -> tuple[Scalar, ...]:
    return tuple(value_at(hyperparameter, step) for hyperparameter in hyperparameters)


def all_in_dtype(dtype: DType, *values: Scalar) -> tuple[Scalar, ...]:
    return tuple(in_dtype(value, dtype) for value in values)


def check_not_negative(caller: str, **hyperparameters: Hyperparameter) -> None:
    """Check that every hyper-parameter is one number of at least 0, as far as its value is known while tracing."""
    for name, value in hyperparameters.items():
        check_scalar(caller, name, value)
        checks.in_range(caller, name, value, 0, float("inf"), open_high=True)


def check_decay_rate(caller: str, **hyperparameters: Hyperparameter) -> None:
    """Check that every hyper-parameter is one number in ``[0, 1)``: with 1 a moving average would never move."""
    for name, value in hyperparameters.items():
        check_scalar(caller, name, value)
        checks.in_range(caller, name, value, 0, 1, open_high=True)


def check_scalar(caller: str, name: str, value: Hyperparameter) -> None:
    # An array of rates would be broadcast over the entries of a parameter.
    if not callable(value) and np.shape(value) != ():
        raise ValueError(
            f"{caller}: {name} has shape {np.shape(value)}; expected one number: use jax.vmap to try several at once"
        )
