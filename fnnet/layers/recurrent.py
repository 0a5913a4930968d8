"""Layers that run a recurrent cell over a sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.layers.cells import Carry, Cell, check_carry
from fnnet.layers.nesting import Children
from fnnet.shards import varying_with
from fnnet.types import Array, Params, Shaped


@configuration
class Recurrent:
    """A cell that runs over a sequence, ``carry_t, y_t = cell(carry_{t−1}, x_t)``, by one ``jax.lax.scan``.

    Shapes: ``x (N, T, D)``, ``y (N, T, H)``, or ``(N, H)``, the output of the last step, with
    ``return_sequences=False``. With ``reverse`` the cell runs from step ``T`` to step 1: ``y_t`` still belongs to
    ``x_t``, and the last step is step 1. ``params`` are those of the cell. The carry starts at zero; ``scan`` takes
    another one, and masks.

    Cost: ``2 N T (D + H) G H`` operations forward for a cell of ``G`` gates, twice that backward.
    """

    cell: Cell
    return_sequences: bool = True
    reverse: bool = False

    def __post_init__(self) -> None:
        check_cell("Recurrent", self.cell)

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        check_sequence(repr(self), x)
        return self.cell.init(key, jax.ShapeDtypeStruct((x.shape[0], x.shape[2]), x.dtype))

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return self.scan(params, x)[0]

    def scan(
        self, params: Params, x: Any, carry: Carry | None = None, mask: Array | None = None
    ) -> tuple[Array, Carry]:
        """Return ``(y, carry)`` from a given carry; to continue a stream, pass the returned carry to the next call.

        ``mask (N, T)``, boolean, is True at the steps that exist. At the other steps the carry stays as it is and
        ``y_t`` is 0; the last step is then the last one that exists.
        """
        x = checks.array(repr(self), "x", x)
        carry, mask = self.checked(x, carry, mask)
        xs, exists = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), (where_steps_exist(x, mask), mask))
        z = self.cell.project(params, xs)
        zeros = jnp.zeros((x.shape[0], self.cell.features), x.dtype)

        def step(state: tuple[Carry, Array], inputs: tuple[Array, Array | None]) -> Any:
            (before, last), (z, here) = state, inputs
            after, y = self.cell.advance(params, before, z)
            state = where_exists(here, (after, y), (before, last))
            return state, where_exists(here, y, zeros) if self.return_sequences else None

        start = varying_with((carry, zeros), params, z, exists)
        (carry, last), ys = jax.lax.scan(step, start, (z, exists), reverse=self.reverse)
        return (jnp.swapaxes(ys, 0, 1) if self.return_sequences else last), carry

    def checked(self, x: Array, carry: Any, mask: Any) -> tuple[Carry, Array | None]:
        """Return the carry to start from and the mask, as arrays; raise if they do not fit."""
        place = repr(self)
        check_sequence(place, x)
        checks.floating(place, "x", x)
        if carry is None:
            carry = self.cell.initial_carry(x.shape[0], x.dtype)
        return check_carry(place, self.cell, x.shape[0], x.dtype, carry), check_mask(place, x, mask)


def where_steps_exist(a: Array, mask: Array | None) -> Array:
    """Return ``a (N, T, ·)`` with zeros at the steps that do not exist: NaN times 0 would stay NaN."""
    return a if mask is None else jnp.where(mask[..., None], a, 0)


def where_exists(exists: Array | None, this: Any, other: Any) -> Any:
    """Return the arrays ``(N, ·)`` of ``this`` for the examples that have a step, those of ``other`` elsewhere."""
    return this if exists is None else jax.tree.map(lambda a, b: jnp.where(exists[:, None], a, b), this, other)


def forwards(layer: Recurrent, x: Array, mask: Array | None) -> tuple[Recurrent, Array, Array | None]:
    """Return the layer that runs from step 1 to step ``T``, and the sequences in the order in which they are read."""
    if not layer.reverse:
        return layer, x, mask
    return replace(layer, reverse=False), x[:, ::-1], None if mask is None else mask[:, ::-1]


def in_order(layer: Recurrent, y: Array) -> Array:
    """Return an output of the layer of ``forwards``, or its gradient, in the order of ``layer``; its own inverse."""
    return y[:, ::-1] if layer.reverse and layer.return_sequences else y


def last_output(y: Array, mask: Array | None) -> Array:
    """Return the output of the last step that exists, ``(N, T, H) -> (N, H)``; it is 0 if no step does."""
    if mask is None:
        return y[:, -1]
    last = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], 1)
    return jnp.take_along_axis(y, last[:, None, None], 1)[:, 0]


def last_gradient(dy: Array, steps: int, mask: Array | None) -> Array:
    """Return the gradient of all outputs from that of ``last_output``, ``(N, H) -> (N, T, H)``."""
    if mask is None:
        return jnp.pad(dy[:, None], ((0, 0), (steps - 1, 0), (0, 0)))
    last = steps - 1 - jnp.argmax(mask[:, ::-1], 1)
    return jnp.where((jnp.arange(steps) == last[:, None])[..., None], dy[:, None], 0)


@configuration
class Bidirectional:
    """Two recurrences over the same sequence, one forward and one backward in time, with their outputs concatenated.

    ``y = [Recurrent(cell)(x), Recurrent(other, reverse=True)(x)]`` (Schuster and Paliwal 1997). By default ``other``
    is ``cell``, with parameters of its own. Shapes: ``x (N, T, D)``, ``y (N, T, 2H)``; with
    ``return_sequences=False`` the last outputs of both, ``(N, 2H)``: step ``T`` of the forward direction and step 1 of
    the backward direction. Parameters: ``{"forward": ..., "backward": ...}``. ``scan`` takes carries and masks.
    """

    cell: Cell
    return_sequences: bool = True
    other: Cell | None = None

    def __post_init__(self) -> None:
        check_cell("Bidirectional", self.cell)
        if self.other is not None:
            check_cell("Bidirectional", self.other)

    @property
    def directions(self) -> dict[str, Recurrent]:
        return {
            "forward": Recurrent(self.cell, self.return_sequences),
            "backward": Recurrent(self.other or self.cell, self.return_sequences, reverse=True),
        }

    def children(self) -> Children:
        return tuple(self.directions.items())

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        keys = jax.random.split(key)
        return {name: layer.init(keys[i], x) for i, (name, layer) in enumerate(self.directions.items())}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return self.scan(params, x)[0]

    def scan(
        self, params: Params, x: Any, carry: dict[str, Carry] | None = None, mask: Array | None = None
    ) -> tuple[Array, dict[str, Carry]]:
        """Return ``(y, carry)`` as ``Recurrent.scan``; a carry is ``{"forward": ..., "backward": ...}``.

        The backward carry enters at step ``T`` and is returned from step 1.
        """
        x = checks.array(repr(self), "x", x)
        carry, mask = self.checked(x, carry, mask)
        found = {name: layer.scan(params[name], x, carry[name], mask) for name, layer in self.directions.items()}
        return jnp.concatenate([y for y, _ in found.values()], -1), {name: after for name, (_, after) in found.items()}

    def checked(self, x: Array, carry: Any, mask: Any) -> tuple[dict[str, Carry], Array | None]:
        """Return the carries to start from and the mask, as arrays; raise if they do not fit."""
        directions = self.directions
        checks.require(
            carry is None or (isinstance(carry, dict) and carry.keys() == directions.keys()),
            f"{self!r}: carry is {type(carry).__name__} {list(carry) if isinstance(carry, dict) else ''}; expected a "
            f"dict of two, 'forward' and 'backward'",
        )
        each = {name: layer.checked(x, carry and carry[name], mask)[0] for name, layer in directions.items()}
        return each, check_mask(repr(self), x, mask)


def check_cell(place: str, cell: Any) -> None:
    if isinstance(cell, type) or not isinstance(cell, Cell):
        mend = f"write {cell.__name__}(...)" if isinstance(cell, type) else "expected an RNNCell, GRUCell or LSTMCell"
        raise TypeError(f"{place}: cell is {cell!r}, which has no step; {mend}")


def check_sequence(place: str, x: Shaped) -> None:
    checks.an_array(place, "x", x)
    checks.require(
        len(x.shape) == 3,
        f"{place}: x has shape {x.shape}; expected (N, T, D): examples, time steps, features",
    )
    checks.require(x.shape[1] > 0, f"{place}: x has shape {x.shape}, with no time steps; expected at least one")


def check_mask(place: str, x: Array, mask: Any) -> Array | None:
    """Return the mask as an array; raise if it is not of the examples and steps of ``x``."""
    if mask is None:
        return None
    mask = jnp.asarray(mask)
    checks.require(
        mask.shape == x.shape[:2] and mask.dtype == bool,
        f"{place}: mask has shape {mask.shape} and dtype {mask.dtype}; expected {x.shape[:2]}, boolean, True at "
        f"the steps that exist",
    )
    return mask
