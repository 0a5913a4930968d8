"""Data as arrays of numbers: the checks of everything that enters from outside."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks


def as_numbers(place: str, name: str, value: Any) -> Any:
    """Return ``value`` as an array of the dtype that JAX gives it: of JAX if it is one, else of NumPy.

    What is not an array of numbers raises a ``TypeError``: masked, structured, object, string and datetime arrays,
    None, generators, sparse matrices, and tensors that require a gradient or lie on another device. An integer that
    the dtype cannot hold, such as 2**40 in int32, raises a ``ValueError``.
    """
    given, array = f"{place}: {name} is of type {type(value).__name__}", value
    if not isinstance(value, (np.ndarray, jax.Array)):
        try:
            array = np.asarray(value)
        except Exception as error:  # of a ragged list, or of a tensor that NumPy may not see
            raise TypeError(f"{given}, which NumPy cannot make an array of: {error}") from error
    dtype = device_dtype(given, array)
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):  # a number that becomes infinite is found by the check for these
        result = array.astype(dtype)
    changed = jnp.issubdtype(dtype, jnp.integer) and (result != array).any()
    checks.require(not changed, f"{place}: {name} has integers that do not fit into {dtype}; use jax.enable_x64")
    return result


def device_dtype(given: str, array: Any) -> Any:
    """Return the dtype that JAX gives an array, in the byte order of this machine; refuse what is not of numbers."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{given}, and its mask would be lost; fill it with .filled(number), or leave examples out")
    try:
        dtype = np.dtype(array.dtype)
    except TypeError:  # of PyTorch, or that of keys
        dtype = np.dtype(object)
    if not checks.is_number(dtype):
        raise TypeError(f"{given} and dtype {array.dtype}; expected an array of numbers that NumPy and JAX know")
    return np.dtype(jax.dtypes.canonicalize_dtype(dtype.newbyteorder("=")))


def check_finite(place: str, name: str, values: Any) -> None:
    """Raise a ``ValueError`` that tells how many entries are NaN or infinite and where the first is, if there are."""
    if not jnp.issubdtype(values.dtype, jnp.inexact):
        return
    finite = (jnp if isinstance(values, jax.Array) else np).isfinite(values)
    if not finite.all():
        bad = np.argwhere(~np.asarray(finite))
        raise ValueError(
            f"{place}: {name} has {len(bad)} entries that are NaN or infinite, the first at {tuple(bad[0].tolist())}; "
            f"remove these examples or fill the entries in"
        )
