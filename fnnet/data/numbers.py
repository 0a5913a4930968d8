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
    given = f"{place}: {name} is of type {type(value).__name__}"
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{given}, and its mask would be lost; fill it with .filled(number), or leave examples out")
    array = value
    if not isinstance(value, jax.Array):
        try:
            array = np.asarray(value)
        except Exception as error:  # of a ragged list, or of a tensor that NumPy may not see
            raise TypeError(f"{given}, which NumPy cannot make an array of: {error}") from error
    dtype = device_dtype(given, array.dtype)
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):  # a number that becomes infinite is found by the check for these
        result = array.astype(dtype)
    changed = jnp.issubdtype(dtype, jnp.integer) and (result != array).any()
    checks.require(not changed, f"{place}: {name} has integers that do not fit into {dtype}; enable float64 in JAX")
    return result


def device_dtype(given: str, dtype: Any) -> Any:
    """Return the dtype that JAX gives an array, in the byte order of this machine. Raise for what is not numbers."""
    try:
        kind = dtype if jnp.issubdtype(dtype, jax.dtypes.extended) else np.dtype(dtype)
    except TypeError:  # such as a dtype of PyTorch
        kind = np.dtype(object)
    if not (jnp.issubdtype(kind, np.number) or kind == bool) or kind.char in "mgG":  # time spans, 128 bits
        raise TypeError(f"{given} and dtype {dtype}; expected an array of numbers that NumPy and JAX know")
    return np.dtype(jax.dtypes.canonicalize_dtype(kind.newbyteorder("=")))


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
