"""Layers that run a cell over time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.cells import Carry, Cell, check_carry
from fnnet.configuration import configuration
from fnnet.layers.nesting import Children
from fnnet.shards import varying_with
from fnnet.types import Array, Params, Shaped


@configuration
class Recurrent:
    """A cell over a sequence: ``carry_t, y_t = cell(carry_{t−1}, x_t)``, one ``lax.scan``.

    Shapes: ``x (N, T, D)``, ``y (N, T, H)``, or the last step's ``(N, H)`` with ``return_sequences=False``. With
    ``reverse`` time runs from the last step to the first, ``y_t`` still beside ``x_t``, and the last step is the first.
    ``params`` are the cell's. The carry starts at zero; ``scan`` takes another one, and masks.

    Cost: ``2 N T (D + H) G H`` operations forward for a cell of ``G`` gates, twice that back.
    """

    cell: Cell
    return_sequences: bool = True
    reverse: bool = False

    def __post_init__(self) -> None:
        check_cell("Recurrent", self.cell)

    def init(self, key: Array, x: Shaped) -> Params:
        check_sequence(repr(self), x)
        return self.cell.init(key, jax.ShapeDtypeStruct((x.shape[0], x.shape[2]), x.dtype))

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return self.scan(params, x)[0]

    def scan(
        self, params: Params, x: Any, carry: Carry | None = None, mask: Array | None = None
    ) -> tuple[Array, Carry]:
        """``(y, carry)``: from a given carry, to go on from the one given back; a stream is a loop of such calls.

        ``mask (N, T)``, boolean, is True at the steps that exist. The others change nothing: the carry passes them as
        it is, their ``y_t`` is 0, and the last step's ``y`` is that of the last step that exists.
        """
        x = jnp.asarray(x)
        carry, mask = self.checked(x, carry, mask)
        x_by_time, exists_by_time = by_time(x, mask)
        z = self.cell.project(params, x_by_time)

        def step(state: tuple[Carry, Array], inputs: tuple[Array, Array | None]) -> Any:
            carry, last = state
            z, exists = inputs
            after, y = self.cell.advance(params, carry, z)
            after, shown, last = masked_step(exists, carry, after, y, last)
            return (after, last), shown if self.return_sequences else None

        nothing = jnp.zeros((x.shape[0], self.cell.features), x.dtype)
        start = varying_with((carry, nothing), params, z, exists_by_time)
        (carry, last), ys = jax.lax.scan(step, start, (z, exists_by_time), reverse=self.reverse)
        return (jnp.swapaxes(ys, 0, 1) if self.return_sequences else last), carry

    def checked(self, x: Array, carry: Any, mask: Any) -> tuple[Carry, Array | None]:
        """The carry to start from and the mask, as arrays. Refuses what does not fit."""
        place = repr(self)
        check_sequence(place, x)
        checks.floating(place, "x", x)
        if carry is None:
            carry = self.cell.initial_carry(x.shape[0], x.dtype)
        return check_carry(place, self.cell, x.shape[0], x.dtype, carry), check_mask(place, x, mask)


def by_time(x: Array, mask: Array | None) -> tuple[Array, Array | None]:
    """``x (T, N, D)`` and ``mask (T, N)``."""
    return jnp.swapaxes(where_steps_exist(x, mask), 0, 1), None if mask is None else jnp.swapaxes(mask, 0, 1)


def where_steps_exist(x: Array, mask: Array | None) -> Array:
    """0 for inputs of steps that do not exist: NaN times 0 would stay NaN."""
    return x if mask is None else jnp.where(mask[..., None], x, 0)


def masked_step(exists: Array | None, before: Carry, after: Carry, y: Array, last: Array) -> tuple[Carry, Array, Array]:
    """The carry, the output to show and the last output, after a step that only some examples have."""
    if exists is None:
        return after, y, y
    here = exists[:, None]
    carry = jax.tree.map(lambda a, b: jnp.where(here, a, b), after, before)
    return carry, jnp.where(here, y, 0), jnp.where(here, y, last)


@configuration
class Bidirectional:
    """Two recurrences over the same sequence, one forwards and one backwards in time, their outputs side by side.

    ``y = [Recurrent(cell)(x), Recurrent(other, reverse=True)(x)]`` (Schuster and Paliwal 1997); ``other`` is ``cell``
    again, with parameters of its own, unless given. Shapes: ``x (N, T, D)``, ``y (N, T, 2H)``; with
    ``return_sequences=False`` both last steps, ``(N, 2H)``: the forward one's at the end, the backward one's at the
    start. Parameters: ``{"forward": ..., "backward": ...}``. ``scan`` takes carries, and masks.
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
        keys = jax.random.split(key)
        return {name: layer.init(keys[i], x) for i, (name, layer) in enumerate(self.directions.items())}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return self.scan(params, x)[0]

    def scan(
        self, params: Params, x: Any, carry: dict[str, Carry] | None = None, mask: Array | None = None
    ) -> tuple[Array, dict[str, Carry]]:
        """``(y, carry)``, as ``Recurrent.scan``, with a carry per direction: ``{"forward": ..., "backward": ...}``.

        The backward one comes in at the last step and is given back at the first.
        """
        x = jnp.asarray(x)
        carry, mask = self.checked(x, carry, mask)
        found = {name: layer.scan(params[name], x, carry[name], mask) for name, layer in self.directions.items()}
        return jnp.concatenate([y for y, _ in found.values()], -1), {name: after for name, (_, after) in found.items()}

    def checked(self, x: Array, carry: Any, mask: Any) -> tuple[dict[str, Carry], Array | None]:
        """The carries to start from and the mask, as arrays. Refuses what does not fit."""
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
    checks.require(
        len(x.shape) == 3,
        f"{place}: x has shape {x.shape}; expected (N, T, D): examples, time steps, features",
    )
    checks.require(x.shape[1] > 0, f"{place}: x has shape {x.shape}, with no time steps; expected at least one")


def check_mask(place: str, x: Array, mask: Any) -> Array | None:
    """The mask as an array. Refuses one that is not of the examples and steps of ``x``."""
    if mask is None:
        return None
    mask = jnp.asarray(mask)
    checks.require(
        mask.shape == x.shape[:2] and mask.dtype == bool,
        f"{place}: mask has shape {mask.shape} and dtype {mask.dtype}; expected {x.shape[:2]}, boolean, True at "
        f"the steps that exist",
    )
    return mask
