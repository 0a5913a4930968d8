"""Checks of a data set or a stream, once, where it enters."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from fnnet import checks
from fnnet.cost import Cost, split_batch
from fnnet.data.augment import Augmentation
from fnnet.data.numbers import as_numbers, check_finite
from fnnet.data.stream import Stream
from fnnet.layers import BatchNorm
from fnnet.layers.nesting import holds
from fnnet.training.placement import Placement
from fnnet.training.processes import agreed
from fnnet.types import Array, Batch, Params


def placed_data(
    place: str, cost: Cost, placement: Placement, params: Params, data: Batch, augment: Augmentation | None = None
) -> Batch:
    """Return a set in memory where it belongs, after checking it; each process gives its part."""
    with on_host(data):
        x, y = checked_data(place, cost, params, data, augment)
    if placement.processes > 1:
        placement.check_parts(place, np.asarray(multihost_utils.process_allgather(np.int32(len(x)))).tolist())
    return placement.batch((x, y))


def check_stream(
    place: str,
    cost: Cost,
    placement: Placement,
    stream: Stream,
    key: Array,
    params: Params = None,
    augment: Augmentation | None = None,
) -> None:
    """Check the first batch of a stream and, with several processes, that their streams fit together."""

    def own() -> tuple[None, Mapping[str, Any]]:
        batch = stream.first(key)
        if params is not None:
            with on_host(batch):
                checked_data(f"{place}: the first batch of the stream", cost, params, batch, augment)
        kinds = {f"{name} of an example": f"{a.dtype} {a.shape[1:]}" for name, a in zip("xy", batch)}  # noqa: B905
        if placement.processes > 1:
            checks.require(
                stream.examples is not None,
                f"{place}: the number of examples in the stream of each process is not known; with several processes "
                f"pass examples= to fnnet.data.from_batches",
            )
        smaller = bool((stream.examples or 0) % stream.batch_size) and not stream.drop_last
        checks.require(
            not (placement.processes > 1 and smaller and holds(cost.model, BatchNorm)),
            f"{place}: the last batch, of fewer than {stream.batch_size} examples, would be filled up, and what fills "
            f"it would enter the moments of BatchNorm; use drop_last=True, or a batch_size that divides the examples",
        )
        names = ("batch_size", "drop_last", "chunk_bytes")
        facts = {name: getattr(stream, name) for name in names}
        return None, facts | {"batches": stream.steps, "a smaller last batch": smaller} | kinds

    agreed(place, placement.processes, own)
    placement.check_batch_size(place, stream.batch_size, placement.processes)


def check_moments(place: str, cost: Cost, examples: int, batch_size: int, *, drop_last: bool) -> None:
    """Refuse a last batch of one example, which has no variance for ``BatchNorm``."""
    checks.require(
        examples % batch_size != 1 or batch_size == 1 or drop_last or not holds(cost.model, BatchNorm),
        f"{place}: the last batch would be a single example of {examples}, whose variance BatchNorm cannot take; use "
        f"drop_last=True or another batch_size than {batch_size}",
    )


def on_host(data: Any) -> AbstractContextManager[Any]:
    """Let arrays of NumPy be checked in the memory of the host: the first device need not have room for all of them."""
    if any(isinstance(part, jax.Array) for part in (data if isinstance(data, (tuple, list)) else [data])):
        return nullcontext()
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX was told to start no CPU
        return nullcontext()


def checked_data(
    place: str, cost: Cost, params: Params, data: Batch, augment: Augmentation | None = None
) -> tuple[Array, Array]:
    """Return the data as JAX's arrays after these checks, with ``place`` in every message.

    Both have the same number of examples, at least one; there is no NaN or infinity; and shapes, dtypes and values of
    the targets are what the cost's loss accepts, such as labels within the classes of the model's prediction. If the
    data will go through ``augment``, the shapes and dtypes that come out of it are checked, and no target values.
    """
    if isinstance(data, (tuple, list)) and len(data) == 2:
        data = tuple(as_numbers(place, name, part) for name, part in zip("xy", data, strict=True))
    x, y = split_batch(place, data)
    check_finite(place, "x", x)
    check_finite(place, "y", y)
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
