"""A recurrent layer that runs over a sequence segment by segment, to save memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.layers.cells import Carry
from fnnet.layers.nesting import Children
from fnnet.layers.recurrent import Recurrent, forwards, in_order
from fnnet.shards import varying_with
from fnnet.types import Array, Params, Shaped


@configuration
class Rematerialized:
    """A recurrent layer whose gradient needs the memory of few steps, with the same values and the same gradient.

    A sequence has ``C = T / segment`` segments, and only the carries before them are kept. The backward pass runs each
    segment again to get its residuals. So memory holds ``C`` carries and the residuals of ``segment`` steps instead of
    those of ``T``: ``O(√T)`` with the default, ``⌈√T⌉`` or the next divisor of ``T`` below twice that. It costs
    one more forward pass. Source: Chen et al. 2016, "Training deep nets with sublinear memory cost", section 4.

    Shapes, parameters, ``scan`` and masks are those of ``layer``. If ``T`` is no multiple of ``segment``, the
    first segment is shorter.
    """

    layer: Recurrent
    segment: int | None = None

    def __post_init__(self) -> None:
        require_recurrent("Rematerialized", self.layer)
        if self.segment is not None:
            checks.positive_integer("Rematerialized", "segment", self.segment)

    def children(self) -> Children:
        return (("", self.layer),)

    def init(self, key: Array, x: Shaped) -> Params:
        return self.layer.init(key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return self.scan(params, x)[0]

    def scan(
        self, params: Params, x: Any, carry: Carry | None = None, mask: Array | None = None
    ) -> tuple[Array, Carry]:
        """Return ``(y, carry)`` as ``Recurrent.scan``."""
        x = jnp.asarray(x)
        carry, mask = self.layer.checked(x, carry, mask)
        layer, x, mask = forwards(self.layer, x, mask)
        # The barriers against common subexpressions are not needed inside a scan.
        kept = partial(jax.checkpoint, prevent_cse=False)
        y, carry, _ = scan_segments(layer, params, x, carry, mask, self.length(x), kept)
        return in_order(self.layer, y), carry

    def length(self, x: Shaped) -> int:
        """Return the number of steps in a segment."""
        steps = x.shape[1]
        if self.segment is not None:
            return min(steps, self.segment)
        root = math.isqrt(steps - 1) + 1
        return next((length for length in range(root, 2 * root) if steps % length == 0), root)


def require_recurrent(place: str, layer: Any) -> None:
    if not isinstance(layer, Recurrent):
        raise TypeError(
            f"{place}: layer is {layer!r}; expected a Recurrent (of a Sequential, wrap each Recurrent in it)"
        )


def rest_of(arrays: Any, segment: int) -> Any:
    """Return the first ``R = T mod S`` steps of every array, ``(N, T, ...) -> (N, R, ...)``."""
    return jax.tree.map(lambda a: a[:, : a.shape[1] % segment], arrays)


def segments_of(arrays: Any, segment: int) -> Any:
    """Return the other steps as segments, ``(N, T, ...) -> (C, N, S, ...)``."""

    def of(a: Array) -> Array:
        count, rest = divmod(a.shape[1], segment)
        return jnp.moveaxis(a[:, rest:].reshape(a.shape[0], count, segment, *a.shape[2:]), 1, 0)

    return jax.tree.map(of, arrays)


def joined(rest: Array | None, segments: Array) -> Array:
    """Return the inverse of ``rest_of`` and ``segments_of``."""
    count, examples, segment = segments.shape[:3]
    whole = jnp.moveaxis(segments, 0, 1).reshape(examples, count * segment, *segments.shape[3:])
    return whole if rest is None else jnp.concatenate([rest, whole], 1)


def any_step(mask: Array | None) -> Array:
    """Return which examples have a step in a segment, ``(N, 1)``."""
    return jnp.array(True) if mask is None else mask.any(1, keepdims=True)


def scan_segments(
    layer: Recurrent,
    params: Params,
    x: Array,
    carry: Carry,
    mask: Array | None,
    segment: int,
    kept: Callable[..., Any] = lambda run: run,
) -> tuple[Array, Carry, Carry]:
    """Return ``(y, carry, starts)`` of a layer that runs forward; ``starts (C, ...)`` has the carries before them.

    ``kept`` wraps the function that runs a segment.
    """

    def run(state: tuple[Carry, Array], piece: tuple[Array, Array | None]) -> Any:
        before, last = state
        y, after = layer.scan(params, piece[0], before, piece[1])
        if layer.return_sequences:
            return (after, last), (before, y)
        return (after, jnp.where(any_step(piece[1]), y, last)), (before, None)

    nothing = jnp.zeros((x.shape[0], layer.cell.features), x.dtype)
    state, y_rest = varying_with((carry, nothing), params, x, mask), None
    if x.shape[1] % segment:
        state, (_, y_rest) = run(state, rest_of((x, mask), segment))
    (carry, last), (starts, ys) = jax.lax.scan(kept(run), state, segments_of((x, mask), segment))
    return (joined(y_rest, ys) if layer.return_sequences else last), carry, starts
