"""Data that are no arrays of numbers, in a stream of arrays, in one of batches, and in memory."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Affine,
    Cost,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    MaxPool,
    Recurrent,
    RNNCell,
    backprop,
    evaluate,
    fit,
    losses,
    sequential,
)
from fnnet.backprop import as_custom_vjp
from fnnet.data import from_arrays, from_batches
from fnnet.optimizers import sgd

COST = Cost(Dense(1), losses.squared_error)
PARAMS = {"w": jnp.ones((2, 1)), "b": jnp.zeros(1)}
GOOD = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
TIMES = np.array(["2020-01-01"] * 8, "datetime64[s]").reshape(4, 2)


def tensor(**options: Any) -> Any:
    return pytest.importorskip("torch").ones((4, 2), **options)


BAD = {
    "masked": lambda: np.ma.masked_array(GOOD[0], GOOD[0] > 2),
    "structured": lambda: np.ones((4, 2), [("a", "f4")]),
    "objects": lambda: np.ones((4, 2), object),
    "text": lambda: np.full((4, 2), "1"),
    "bytes": lambda: np.full((4, 2), b"1"),
    "times": lambda: TIMES,
    "time spans": lambda: TIMES - TIMES[0, 0],
    "128 bits": lambda: np.ones((4, 2), np.longdouble),
    "none": lambda: None,
    "generator": lambda: (row for row in GOOD[0]),
    "dict": lambda: {"a": GOOD[0]},
    "ragged": lambda: [[1.0, 2.0], [3.0], [1.0, 2.0], [1.0, 2.0]],
    "keys": lambda: jax.random.split(jax.random.key(0), (4, 2)),
    "needs a gradient": lambda: tensor(requires_grad=True),
    "elsewhere": lambda: tensor(device="meta"),
    "integers of any size": lambda: [[2**70, 1]] * 4,
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("where", ["memory", "validation", "batches", "arrays"])
@pytest.mark.parametrize("name", ["x", "y"])
def test_what_is_no_array_of_numbers_is_refused_by_name(kind: str, where: str, name: str) -> None:
    """The message tells the function or the batch, the input or the target, and the type."""
    if kind == "128 bits" and np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("there is no such dtype on this machine")
    bad = BAD[kind]()
    data = (bad, GOOD[1]) if name == "x" else (GOOD[0], bad)
    run = partial(fit, COST, sgd(0.1), PARAMS, key=jax.random.key(0), epochs=1, batch_size=2)
    place, call = {
        "memory": ("fit", lambda: run(data)),
        "validation": ("fit: validation", lambda: run(GOOD, validation=data)),
        "batches": ("data.Stream: batch 1", lambda: [*from_batches([GOOD, data], 4).chunks(jax.random.key(0))]),
        "arrays": ("(data.from_arrays|data.Stream)", lambda: [*from_arrays(*data, 2).chunks(jax.random.key(0))]),
    }[where]
    with pytest.raises(TypeError) as caught:
        call()
    assert re.match(rf"{place}: {name} is of type {type(bad).__name__}\b", str(caught.value))


USES: dict[str, Any] = {
    "Cost": lambda bad: COST(PARAMS, (GOOD[0], bad)),
    "evaluate": lambda bad: evaluate(COST, PARAMS, (bad, GOOD[1])),
    "losses.squared_error": lambda bad: losses.squared_error(GOOD[0], bad),
    "Dense": lambda bad: Dense(1).apply(PARAMS, bad),
    "Flatten": lambda bad: Flatten().apply({}, bad),
    "MaxPool": lambda bad: MaxPool(2).apply({}, bad),
    "Dropout": lambda bad: Dropout(0.5).apply({}, bad),
    "Recurrent": lambda bad: Recurrent(RNNCell(2)).apply({}, bad),
    "Embedding": lambda bad: Embedding(2, 3).apply({}, bad),
    "Sequential": lambda bad: backprop.vjp(sequential(Dense(1)), (PARAMS,), bad),
    "Affine": lambda bad: as_custom_vjp(Affine()).apply({}, bad),
}


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind not in ("keys", "generator")])
def test_wherever_they_are_used(kind: str) -> None:
    """A layer, a loss, a cost or a rule names itself, the argument, and the type or the dtype that came."""
    if kind == "128 bits" and np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("there is no such dtype on this machine")
    bad = BAD[kind]()
    for place, use in USES.items():
        with pytest.raises(TypeError) as caught:
            use(bad)
        came = f"(of the type {type(bad).__name__}|has dtype|masked array)"
        assert re.match(rf"{place}\b.*: (x|y|target) .*{came}", str(caught.value)), (place, str(caught.value))


@pytest.mark.parametrize("dtype", ["f8", ">f4", "f2", "bfloat16"])
def test_arrays_of_numbers_are_what_jax_makes_of_them(dtype: str) -> None:
    for given in (np.arange(8).reshape(4, 2).astype(jnp.dtype(dtype)), [[1, 2]] * 4):
        (chunk,) = from_batches([(given, GOOD[1])], 4).chunks(jax.random.key(0))
        expected = jnp.asarray(given if np.asarray(given).dtype.isnative else given.astype("f4"))  # type: ignore[union-attr]
        assert chunk.x.dtype == expected.dtype
        np.testing.assert_array_equal(chunk.x[0], expected)
