"""Checks of a data set, once, where it enters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.cost import Cost, split_batch
from fnnet.data.augment import Augmentation
from fnnet.data.batches import in_native_order
from fnnet.types import Array, Batch, Params


def checked_data(
    place: str, cost: Cost, params: Params, data: Batch, augment: Augmentation | None = None
) -> tuple[Array, Array]:
    """The data as arrays on the device, after these checks, with ``place`` in every message.

    Same number of examples in both, at least one; no NaN or infinity; and shapes, dtypes and target values that the
    cost's loss accepts, such as labels within the classes of the model's prediction. Of data that will go through
    ``augment``, the shapes and dtypes are those that come out of it, and the target values are not looked at.
    """
    if isinstance(data, (tuple, list)):
        data = tuple(in_native_order(part) if isinstance(part, np.ndarray) else part for part in data)  # type: ignore[assignment]
    x, y = split_batch(place, data)
    finite(place, "x", x)
    finite(place, "y", y)
    try:
        if augment is None:
            # Abstract parameters and predictions, actual data: layers and loss look at its values and compute nothing.
            prediction = jax.eval_shape(lambda p: cost.model.apply(p, x), params)
            jax.eval_shape(lambda p: cost.mean_loss(p, y), prediction)
        else:
            changed = jax.eval_shape(augment, jax.random.key(0), (x, y))
            jax.eval_shape(cost, params, changed)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        placed = kind(f"{place}: {error}")
        for note in getattr(error, "__notes__", ()):  # such as the layer that it came from
            placed.add_note(note)
        raise placed from error
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
