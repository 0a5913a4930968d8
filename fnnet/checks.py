"""Checks of shapes, dtypes and ranges, and their messages.

A check looks only at what is known while tracing, so it costs nothing in a compiled program. Its message says which
layer or function is called wrongly (``place``), what is wrong, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.types import Array, DType, Shape, Shaped


def dtype_of(x: Any) -> DType:
    """Return the dtype that jax gives ``x``: float32 for a NumPy float64 array, unless x64 is enabled."""
    return jax.dtypes.canonicalize_dtype(x.dtype) if hasattr(x, "dtype") else jnp.result_type(x)


def at_least_float32(*arrays: Any) -> DType:
    """Return the dtype for sums over these arrays: the widest of their dtypes, and at least float32.

    A sum in bfloat16 stops growing early (256 + 1 is 256), and a moment that decays by 0.999 never would.
    """
    return max((jnp.dtype(jnp.float32), *map(dtype_of, arrays)), key=lambda dtype: jnp.finfo(dtype).bits)


def is_float(x: Any) -> bool:
    """Return whether ``x`` is of floating point, bfloat16 and float8 included."""
    return bool(jnp.issubdtype(dtype_of(x), jnp.floating))


def is_integer(x: Any) -> bool:
    """Return whether ``x`` is of integers; booleans are none."""
    return bool(jnp.issubdtype(dtype_of(x), jnp.integer))


def is_number(dtype: DType) -> bool:
    """Return whether JAX knows this dtype as one of numbers; time spans and 128 bits are none, booleans are."""
    return bool(jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_)) and dtype.char not in "mgG"


def is_concrete(x: Any) -> bool:
    """Return whether the values of ``x`` are known, that is, whether no transformation is tracing it."""
    return not isinstance(x, jax.core.Tracer)


def array(place: str, name: str, value: Any) -> Array:
    """Return ``value`` as an array of JAX, or raise a ``TypeError`` that names it."""
    not_masked(place, name, value)
    try:
        return jnp.asarray(value)
    except jax.errors.JaxRuntimeError:  # such as too little memory
        raise
    except Exception as error:  # of any kind, such as that of a tensor that requires a gradient
        raise no_array(place, name, value) from error


def an_array(place: str, name: str, value: Any) -> None:
    """Raise a ``TypeError`` unless ``value`` is an array of NumPy or JAX, or tells the shape and dtype of one."""
    not_masked(place, name, value)
    try:
        known = hasattr(value, "shape") and is_number(np.dtype(value.dtype))
    except (AttributeError, TypeError):  # without a dtype, or with one of another library
        known = False
    if not known:
        raise no_array(place, name, value)


def no_array(place: str, name: str, value: Any) -> TypeError:
    given = f"has dtype {value.dtype}" if isinstance(value, np.ndarray) else f"is of the type {type(value).__name__}"
    return TypeError(f"{place}: {name} {given}; expected one array of numbers, of NumPy or of JAX")


def not_masked(place: str, name: str, value: Any) -> None:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{place}: {name} is a masked array, whose mask would be lost; fill it, or give weights of 0")


def no_pair(batch: Any) -> str:
    """Return what a batch is that should be a pair."""
    if isinstance(batch, (tuple, list)) and len(batch) == 3:
        return "a triple, but only a cost and train_step take weights (x, y, w): here put them into the loss"
    return type(batch).__name__


def known(value: Any) -> Any:
    """Return a number, or an array of numbers, in NumPy where its values are known, and None where it is traced.

    A check of a number looks at it this way, so that the number may also be an argument of a compiled function. NumPy
    reads it, because within a trace the functions of jax would trace it too. A tuple is known if all its entries are.
    """
    if all(map(is_concrete, jax.tree.leaves(value))):
        return np.asarray(value)[()]
    return None


def in_dtype(value: Any, dtype: DType) -> Any:
    """Return a number that may be traced, so that it multiplies arrays of ``dtype`` without promoting them.

    Python numbers do so as they are. ``np.float64`` is a Python float, but jax takes it for a strongly typed array:
    hence the call of ``float``.
    """
    return float(value) if isinstance(value, (int, float)) else jnp.asarray(value).astype(dtype)


def python_number(value: Any) -> Any:
    """Return a number whose value is known as a Python float, which is hashable, and a traced one as it is."""
    return value if known(value) is None else float(value)


def random_key(place: str, key: Any) -> None:
    """Raise a ``TypeError`` unless ``key`` is a key of jax, of the new or of the old style."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == np.uint32):
        raise TypeError(f"{place}: key is {key!r}; expected a random key, such as jax.random.key(0)")


def init_arguments(place: str, key: Any, x: Any) -> None:
    """Raise a ``TypeError`` unless the arguments of ``init`` are a key and something with a shape and a dtype."""
    random_key(place, key)
    if not (hasattr(x, "shape") and hasattr(x, "dtype")):
        raise TypeError(
            f"{place}: x is {x!r}; expected an array, or jax.ShapeDtypeStruct(shape, dtype) with the batch axis"
        )


def parameters(place: str, params: Any, x: Any, **expected: Shape) -> None:
    """Raise unless ``params`` is a dict of arrays with the names and shapes of ``expected``, in the dtype of ``x``.

    Every layer calls it before it computes anything; nothing is broadcast or promoted silently. Where ``x`` holds
    integers, the dtype is that of the first parameter.
    """
    if not isinstance(params, Mapping) or params.keys() != expected.keys():
        came = sorted(params) if isinstance(params, Mapping) else f"a {type(params).__name__}"
        raise ValueError(f"{place}: params is {came}; expected a dict of {sorted(expected)}, as init makes it")
    for name, shape in expected.items():
        found = np.shape(params[name])
        if found != shape:
            mend, order = "reshape x, or init the parameters with inputs of this shape", (*range(2, len(found)), 1, 0)
            if len(found) > 1 and tuple(found[axis] for axis in order) == shape:  # outputs first, as in PyTorch
                mend = f"its axes stand in another order, transpose it with jnp.transpose({name}, {order})"
            raise ValueError(
                f"{place}: x has shape {x.shape} but {name} has shape {found}; expected {name} {shape}: {mend}"
            )
        if is_float(x):
            same_dtype(place, "x", x, name, params[name])
        else:
            same_dtype(place, next(iter(expected)), params[next(iter(expected))], name, params[name])


def is_symbolic(size: Any) -> bool:
    """Return whether the length of an axis stands for any number, as that of a batch may in ``jax.export``."""
    return not isinstance(size, int)


@contextmanager
def sizes_decided(place: str, shape: Shape) -> Iterator[None]:
    """Raise a ``ValueError`` by name where too little is known of the symbolic axes of ``jax.export``."""
    try:
        yield
    except jax.errors.InconclusiveDimensionOperation as error:
        raise ValueError(
            f"{place}: x has shape {shape}, of which too little is known ({str(error).splitlines()[0]}); expected axes "
            f"of known length, or a constraint for them, as in jax.export.symbolic_shape('h', constraints=['h >= 8'])"
        ) from error


def require(condition: bool, message: str) -> None:
    """Raise a ``ValueError`` with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def floating(place: str, name: str, x: Any) -> None:
    """Raise a ``TypeError`` unless ``x`` is an array of floating point."""
    an_array(place, name, x)
    if not is_float(x):
        raise TypeError(f"{place}: {name} has dtype {dtype_of(x)}; expected floating point: convert it with .astype")


def same_dtype(place: str, name: str, x: Any, other_name: str, other: Any) -> None:
    """Raise a ``TypeError`` unless two arrays have one dtype."""
    if dtype_of(x) != dtype_of(other):
        raise TypeError(
            f"{place}: {name} has dtype {dtype_of(x)} but {other_name} has {dtype_of(other)}; "
            f"convert one of them with .astype, nothing is promoted silently"
        )


def features_of(place: str, x: Shaped) -> int:
    """Return the number of features on the last axis of ``x``. Raise unless there is one, of floating point."""
    an_array(place, "x", x)
    require(
        len(x.shape) > 0 and x.shape[-1] > 0,
        f"{place}: x has shape {x.shape}; expected its features on the last axis, at least one",
    )
    floating(place, "x", x)
    return x.shape[-1]


def same_shape(place: str, prediction: Shaped, target: Shaped) -> None:
    """Raise a ``ValueError`` unless prediction and target have one shape."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"{place}: target has shape {target.shape} but prediction {prediction.shape}; "
            f"they must be equal, nothing is broadcast: reshape one of them"
        )


def positive_integer(place: str, name: str, value: Any) -> None:
    """Raise a ``ValueError`` unless ``value`` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{place}: {name} is {value!r}; expected an integer of at least 1")


def positive_int32(place: str, name: str, value: Any) -> None:
    """Raise a ``ValueError`` unless ``value`` is an integer from 1 to 2³¹ − 1, as a count of updates may be."""
    positive_integer(place, name, value)
    require(value < 2**31, f"{place}: {name} is {value}; expected at most 2147483647, as updates are counted in int32")


def in_range(place: str, name: str, value: Any, low: float, high: float, *, open_high: bool = False) -> None:
    """Raise a ``ValueError`` unless ``low <= value <= high`` (``< high`` if open). Functions and traced values pass."""
    if callable(value):
        return
    a_number(place, name, value)
    number = known(value)
    if number is not None and not np.all((number >= low) & ((number < high) if open_high else (number <= high))):
        raise ValueError(
            f"{place}: {name} is {value}; expected a number in [{low:g}, {high:g}{')' if open_high else ']'}"
        )


def a_number(place: str, name: str, value: Any) -> None:
    """Raise a ``TypeError`` unless ``value`` is a number, an array of them, or a traced one."""
    if not isinstance(value, (int, float, np.number, np.ndarray, jax.Array)):
        raise TypeError(f"{place}: {name} is {value!r}; expected a number")


def above_zero(place: str, name: str, value: Any) -> None:
    """Raise a ``ValueError`` unless ``value`` is a finite number above 0. Traced values pass."""
    in_range(place, name, value, 0, float("inf"), open_high=True)
    number = known(value)
    require(number is None or bool(np.all(number > 0)), f"{place}: {name} is {value}; expected a number above 0")


def key_given(place: str, key: Array | None) -> Array:
    """Return the key, or raise a ``ValueError`` if there is none."""
    if key is None:
        raise ValueError(
            f"{place}: train=True draws random numbers but key is None; pass key=jax.random.key(...), "
            f"or train=False for the deterministic network"
        )
    random_key(place, key)
    return key


def labels_in_range(place: str, labels: Any, classes: int) -> None:
    """Raise a ``ValueError`` unless all labels are in ``0 .. classes - 1``. Labels are not known under ``jit``."""
    if not is_concrete(labels) or np.size(labels) == 0:
        return
    values = np.asarray(labels)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= classes:
        bad = low if low < 0 else high
        raise ValueError(
            f"{place}: label {bad} (first at {tuple(int(i) for i in np.argwhere(values == bad)[0])}) is outside "
            f"0 .. {classes - 1}, the {classes} classes of the prediction; remap the labels or widen the last layer"
        )


def class_target(place: str, prediction: Shaped, target: Shaped) -> bool:
    """Return whether a target over the classes on the prediction's last axis holds labels.

    It is True for integer labels of shape ``prediction.shape[:-1]`` and False for floating-point distributions of the
    prediction's own shape. Everything else raises.
    """
    if len(prediction.shape) < 1:
        raise ValueError(f"{place}: prediction is a scalar; expected classes on its last axis, for example (8, 10)")
    labels, distributions = prediction.shape[:-1], prediction.shape
    expected = (
        f"prediction {prediction.shape} needs integer labels {labels} or floating-point distributions {distributions}"
    )
    if is_integer(target):
        if target.shape == labels:
            labels_in_range(place, target, prediction.shape[-1])
            return True
        mend = ""
        if target.shape == (*labels, 1):
            mend = ": drop the last axis with target[..., 0]"
        elif target.shape == distributions:
            mend = ": convert the one-hot rows with .astype(prediction.dtype)"
        raise ValueError(f"{place}: target has shape {target.shape} and dtype {dtype_of(target)} but {expected}{mend}")
    if is_float(target):
        if target.shape == distributions:
            return False
        mend = ": convert labels with .astype(int)" if target.shape == labels else ""
        raise ValueError(f"{place}: target has shape {target.shape} and dtype {dtype_of(target)} but {expected}{mend}")
    raise TypeError(f"{place}: target has dtype {dtype_of(target)} but {expected}")
