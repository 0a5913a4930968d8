"""Checks of a data set, once, where it enters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.binding import unbind
from fnnet.cost import Cost, split_batch
from fnnet.types import Array, Batch, Params


def checked_data(place: str, cost: Cost, params: Params, data: Batch) -> tuple[Array, Array]:
    """The data as arrays on the device, after these checks, with ``place`` in every message.

    Same number of examples in both, at least one; no NaN or infinity; integer labels within the classes of the model's
    prediction; and shapes and dtypes that the cost accepts.
    """
    x, y = split_batch(place, data)
    finite(place, "x", x)
    finite(place, "y", y)
    example = (jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), jax.ShapeDtypeStruct((1, *y.shape[1:]), y.dtype))
    prediction = jax.eval_shape(cost.model.apply, params, example[0])
    jax.eval_shape(lambda p, b: cost.mean_loss(p, b), prediction, example[1])
    if checks.is_integer(y) and len(y.shape) == len(prediction.shape) - 1:
        ignore_label = unbind(cost.loss)[1].get("ignore_label")
        labels = y if ignore_label is None else y[y != ignore_label]
        checks.labels_in_range(place, labels, prediction.shape[-1])
    return x, y


def finite(place: str, name: str, values: Any) -> None:
    if not checks.is_float(values) or bool(jnp.isfinite(values).all()):
        return
    bad = np.argwhere(~np.isfinite(np.asarray(values)))
    first = tuple(int(i) for i in bad[0])
    raise ValueError(
        f"{place}: {name} has {len(bad)} entries that are NaN or infinite, the first at {first}; "
        f"remove these examples or fill the entries in"
    )
