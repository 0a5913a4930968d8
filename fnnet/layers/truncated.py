"""Truncated backpropagation through time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.configuration import configuration
from fnnet.layers.cells import Carry
from fnnet.layers.nesting import Children
from fnnet.layers.recurrent import Recurrent, forwards, in_order, last_output
from fnnet.layers.segments import any_step, require_recurrent, scan_segments
from fnnet.types import Array, Params, Shaped


@configuration
class Truncated:
    """A recurrent layer with the gradient of truncated backpropagation through time, and with the same values.

    After every ``k1`` steps there is a backward pass for the outputs since the previous pass. It goes back ``k2 ≥ k1``
    steps, by default ``k1``, and treats the carry before them as a constant. If ``T`` is no multiple of ``k1``, the
    last pass is placed as if the sequence continued to the next multiple, and goes back fewer steps. So the gradient
    of ``y_t``, ``t = 1 ... T``, reaches the steps ``s`` with ``⌈t / k1⌉ k1 − k2 < s ≤ t`` and no others, and the given
    carry if ``⌈t / k1⌉ k1 ≤ k2``. The gradient is the sum over the passes. The returned carry counts as an output of
    the last step. With ``layer.reverse``, ``t`` counts from the end.

    Source: Williams and Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories", BPTT(h; h') with ``h = k2`` and ``h' = k1``; with ``k1 = k2`` the sequence is cut into segments.

    Every layer of a stack is truncated by itself. With ``k1 = k2`` this is the truncation of the whole stack. With
    ``k1 < k2`` a lower layer takes the gradient that arrives at a step, also from later passes, ``k2`` steps back.

    Shapes, parameters, ``scan`` and masks are those of ``layer``. All passes are computed at once, as examples with
    ``k2`` steps: the loop has ``k2`` steps instead of ``T``, and memory holds ``T k2 / k1`` steps. Forward mode is
    truncated too. Finite differences are not, so pass ``differences=False`` to ``check_gradients``.

    The truncated gradient is not the gradient of any function, and has no second derivative that is right: it depends
    on what is computed. ``jax.grad`` of the gradient by autodiff truncates once more. The gradient by hand is computed
    from outputs and carries whose own dependence on the parameters is not truncated, so that its derivative, for which
    there is no rule, differs.
    """

    layer: Recurrent
    k1: int
    k2: int | None = None

    def __post_init__(self) -> None:
        require_recurrent("Truncated", self.layer)
        checks.positive_integer("Truncated", "k1", self.k1)
        if self.k2 is not None:
            checks.positive_integer("Truncated", "k2", self.k2)
            checks.require(
                self.k1 <= self.k2,
                f"Truncated: k1 is {self.k1} but k2 {self.k2}; expected k1 <= k2: a pass must go back at least as "
                f"many steps as there are between two passes",
            )

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
        x = checks.array(repr(self), "x", x)
        return truncated_scan(self, params, x, *self.layer.checked(x, carry, mask))

    def windows(self, x: Shaped) -> Passes:
        steps, k2 = x.shape[1], self.k2 or self.k1
        count = -(-steps // self.k1)
        return Passes(steps, count, self.k1, min(k2, count * self.k1))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def truncated_scan(layer: Truncated, params: Params, x: Array, carry: Carry, mask: Array | None) -> tuple[Array, Carry]:
    """Run the layer as it is: without a derivative nothing is truncated."""
    return layer.layer.scan(params, x, carry, mask)


@truncated_scan.defjvp
def truncated_jvp(layer: Truncated, primals: Any, tangents: Any) -> Any:
    return jax.jvp(partial(scan_windows, layer), primals, tangents)


def scan_windows(
    truncated: Truncated, params: Params, x: Array, carry: Carry, mask: Array | None
) -> tuple[Array, Carry]:
    """Compute every output from the window of its pass, with a constant carry before the window."""
    layer, x, mask = forwards(truncated.layer, x, mask)
    windows = truncated.windows(x)
    _, _, boundaries = scan_to_windows(layer, windows, *jax.lax.stop_gradient((params, x, carry)), mask)
    inner = replace(layer, return_sequences=True)
    y, after = inner.scan(params, windows.cut(x), windows.starts(carry, boundaries), windows.exist(x, mask))
    y, after = windows.outputs(y), windows.last(after)
    return (in_order(truncated.layer, y) if layer.return_sequences else last_output(y, mask)), after


def scan_to_windows(
    layer: Recurrent, windows: Passes, params: Params, x: Array, carry: Carry, mask: Array | None
) -> tuple[Array, Carry, Carry]:
    """Return ``(y, carry, boundaries)`` of a layer that runs forward; the boundaries are the constant carries.

    They stand before the last ``B`` windows, ``boundaries (B, ...)``; the other windows begin at step 1.
    """
    length = windows.before_last
    if length == 0:
        y, after = layer.scan(params, x, carry, mask)
        return y, after, jax.tree.map(lambda c: jnp.zeros((0, *c.shape), c.dtype), carry)
    first, second = (jax.tree.map(lambda a, part=part: a[:, part], (x, mask)) for part in windows.halves)
    y_first, middle, starts = scan_segments(layer, params, first[0], carry, first[1], windows.k1)
    y, after = layer.scan(params, second[0], middle, second[1])
    y = jnp.concatenate([y_first, y], 1) if layer.return_sequences else jnp.where(any_step(second[1]), y, y_first)
    # If all segments are whole, the first one starts with the given carry, which is not a constant.
    given = int(length % windows.k1 == 0)
    return y, after, jax.tree.map(lambda cs, c: jnp.concatenate([cs[given:], c[None]]), starts, middle)


class Passes(NamedTuple):
    """The passes of a truncated recurrence: windows of ``k2`` steps whose ends are ``k1`` steps apart.

    Window ``j`` (from 0) holds the steps ``(j + 1) k1 − k2 ... (j + 1) k1 − 1``, some of which may lie before the first
    or after the last step. Of ``W N`` sequences, the first ``N`` are those of window 0, the next those of window 1.
    """

    steps: int
    passes: int
    k1: int
    k2: int

    @property
    def before_last(self) -> int:
        """Return the number of steps before the last window."""
        return self.passes * self.k1 - self.k2

    @property
    def halves(self) -> tuple[slice, slice]:
        return slice(self.before_last), slice(self.before_last, None)

    @property
    def pieces(self) -> list[int]:
        """Return the lengths of the pieces of a window: ``k1`` steps each, fewer in the last."""
        return [min(self.k1, self.k2 - start) for start in range(0, self.k2, self.k1)]

    @property
    def margins(self) -> tuple[int, int]:
        """Return the steps missing before the first and, for all pieces to have ``k1`` steps, after the last."""
        front = self.k2 - self.k1
        return front, (self.passes + len(self.pieces) - 1) * self.k1 - front - self.steps

    def cut(self, a: Array) -> Array:
        """Return the windows of sequences, ``(N, T, ...) -> (W N, k2, ...)``, zero at missing steps."""
        padded = jnp.pad(a, ((0, 0), self.margins, *((0, 0),) * (a.ndim - 2)))
        length = self.passes * self.k1
        parts = [
            padded[:, i * self.k1 : i * self.k1 + length].reshape(a.shape[0], self.passes, self.k1, *a.shape[2:])[
                :, :, :width
            ]
            for i, width in enumerate(self.pieces)
        ]
        return self.folded(jnp.concatenate(parts, 2))

    def added(self, a: Array) -> Array:
        """Return the transpose of ``cut``, ``(W N, k2, ...) -> (N, T, ...)``: overlapping windows are added."""
        front, _ = self.margins
        whole = self.unfolded(a)
        others = ((0, 0),) * (a.ndim - 2)
        total: Any = 0
        for i, width in enumerate(self.pieces):
            part = whole[:, :, i * self.k1 : i * self.k1 + width]
            part = jnp.pad(part, ((0, 0), (0, 0), (0, self.k1 - width), *others))
            part = part.reshape(part.shape[0], self.passes * self.k1, *a.shape[2:])
            total += jnp.pad(part, ((0, 0), (i * self.k1, (len(self.pieces) - 1 - i) * self.k1), *others))
        return total[:, front : front + self.steps]

    def folded(self, a: Array) -> Array:
        """Join the windows to the examples, ``(N, W, ...) -> (W N, ...)``."""
        return jnp.moveaxis(a, 1, 0).reshape(self.passes * a.shape[0], *a.shape[2:])

    def unfolded(self, a: Array) -> Array:
        """Return the inverse of ``folded``, ``(W N, ...) -> (N, W, ...)``."""
        return jnp.moveaxis(a.reshape(self.passes, a.shape[0] // self.passes, *a.shape[1:]), 0, 1)

    def exist(self, x: Array, mask: Array | None) -> Array | None:
        """Return the mask of the windows, None if all their steps exist."""
        if mask is None and self.k1 == self.k2 and self.steps == self.passes * self.k1:
            return None
        return self.cut(jnp.ones(x.shape[:2], bool) if mask is None else mask)

    def starts(self, carry: Carry, boundaries: Carry) -> Carry:
        """Return the carries before the windows, ``(W N, ...)``."""

        def of(c: Array, constants: Array) -> Array:
            given = jnp.broadcast_to(c, (self.passes - len(constants), *c.shape))
            return jnp.concatenate([given, constants]).reshape(self.passes * c.shape[0], *c.shape[1:])

        return jax.tree.map(of, carry, boundaries)

    def given_gradient(self, dstarts: Carry, boundaries: Carry) -> Carry:
        """Return the transpose of ``starts`` with respect to the given carry."""

        def of(dc: Array, constants: Array) -> Array:
            each = dc.reshape(self.passes, dc.shape[0] // self.passes, *dc.shape[1:])
            return each[: self.passes - len(constants)].sum(0)

        return jax.tree.map(of, dstarts, boundaries)

    def outputs(self, y: Array) -> Array:
        """Return the outputs of the last ``k1`` steps of every pass, ``(W N, k2, H) -> (N, T, H)``."""
        own = self.unfolded(y[:, self.k2 - self.k1 :])
        return own.reshape(own.shape[0], self.passes * self.k1, *y.shape[2:])[:, : self.steps]

    def output_gradients(self, dy: Array) -> Array:
        """Return the transpose of ``outputs``."""
        whole = jnp.pad(dy, ((0, 0), (0, self.passes * self.k1 - self.steps), (0, 0)))
        own = self.folded(whole.reshape(dy.shape[0], self.passes, self.k1, dy.shape[2]))
        return jnp.pad(own, ((0, 0), (self.k2 - self.k1, 0), (0, 0)))

    def last(self, carry: Carry) -> Carry:
        """Return the carry after the last window."""
        return jax.tree.map(lambda c: c[c.shape[0] - c.shape[0] // self.passes :], carry)

    def last_carry_gradient(self, dcarry: Carry) -> Carry:
        """Return the transpose of ``last``."""
        before = self.passes - 1
        return jax.tree.map(lambda c: jnp.pad(c, ((before * c.shape[0], 0), *((0, 0),) * (c.ndim - 1))), dcarry)
