"""Positions of the steps in a sequence, for layers that do not see them otherwise, such as attention."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.binding import bind
from fnnet.configuration import configuration
from fnnet.initializers import normal
from fnnet.layers.recurrent import check_sequence
from fnnet.types import Array, Initializer, Params, Shaped

LONGEST = 10_000  # steps; the slowest wave has a wavelength of about 2π times this, the constant of both papers
SMALL_NORMAL = bind(normal, stddev=0.02)


@configuration
class SinusoidalPositions:
    """Adds waves of many lengths: ``y_t = x_t + p_t`` with ``p_t,2i = sin(ω_i t)`` and ``p_t,2i+1 = cos(ω_i t)``.

    Here ``ω_i = 10000^(−2i / D)``, and ``t`` counts from 0. Shapes: ``x`` and ``y (N, T, D)``; an odd ``D`` ends with a
    sine. There are no parameters. Source: Vaswani et al. 2017, "Attention is all you need", section 3.5.
    """

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        check_sequence(repr(self), x)
        checks.floating(repr(self), "x", x)
        return {}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        x = checks.array(repr(self), "x", x)
        check_sequence(repr(self), x)
        checks.floating(repr(self), "x", x)
        steps, features = x.shape[1:]
        with checks.sizes_decided(repr(self), x.shape):
            sine, cosine = waves(int(steps), features)
        return x + jnp.asarray(np.stack([sine, cosine], -1).reshape(steps, -1)[:, :features], x.dtype)


@configuration
class LearnedPositions:
    """Adds a learned vector for each position, ``y_t = x_t + table_t``.

    Shapes: ``x`` and ``y (N, T, D)`` with ``T ≤ length``, ``table (length, D)``. The table starts normal with a
    standard deviation of 0.02. Source: Gehring et al. 2017, "Convolutional sequence to sequence learning",
    section 3.1.
    """

    length: int
    table_init: Initializer = SMALL_NORMAL

    def __post_init__(self) -> None:
        checks.positive_integer("LearnedPositions", "length", self.length)

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments(repr(self), key, x)
        self.check(x)
        checks.floating(repr(self), "x", x)
        return {"table": self.table_init(key, (self.length, x.shape[2]), checks.dtype_of(x))}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        x = checks.array(repr(self), "x", x)
        self.check(x)
        checks.floating(repr(self), "x", x)
        checks.parameters(repr(self), params, x, table=(self.length, x.shape[2]))
        return x + params["table"][: x.shape[1]]

    def check(self, x: Shaped) -> None:
        check_sequence(repr(self), x)
        with checks.sizes_decided(repr(self), x.shape):
            checks.require(
                x.shape[1] <= self.length,
                f"{self!r}: x has shape {x.shape}, {x.shape[1]} time steps; expected at most {self.length}: use a "
                f"greater length, or shorter sequences",
            )


def rotate(x: Array, *, back: bool = False) -> Array:
    """Rotate each pair of features of ``x (N, T, heads, d)`` by an angle that grows with the position; ``d`` is even.

    The features ``i`` and ``i + d/2`` of step ``t`` are a pair, rotated by ``t ω_i`` with ``ω_i = 10000^(−2i / d)``:

        y_i = x_i cos(t ω_i) − x_{i+d/2} sin(t ω_i),   y_{i+d/2} = x_{i+d/2} cos(t ω_i) + x_i sin(t ω_i).

    The product of a rotated query at ``t`` and a rotated key at ``s`` depends on ``t − s`` only. The transpose of a
    rotation is its inverse, and ``back`` computes it. Source: Su et al. 2021, "RoFormer", eq. 34, where the neighbours
    ``2i`` and ``2i + 1`` are a pair, so that the columns of ``w_q`` and ``w_k`` have another order.
    """
    dtype = checks.at_least_float32(x)
    with checks.sizes_decided("rotate", x.shape):
        sine, cosine = (jnp.asarray(wave, dtype)[:, None] for wave in waves(int(x.shape[1]), x.shape[3]))
    sine = -sine if back else sine
    low, high = jnp.split(x.astype(dtype), 2, -1)
    return jnp.concatenate([low * cosine - high * sine, high * cosine + low * sine], -1).astype(x.dtype)


@lru_cache(maxsize=8)
def waves(steps: int, features: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return ``sin(t ω_i)`` and ``cos(t ω_i)``, ``(T, ⌈D/2⌉)``, in float64: float32 would round late angles too far."""
    frequencies = LONGEST ** (-np.arange(0, features, 2) / features)
    angles = np.arange(steps)[:, None] * frequencies
    sine, cosine = np.sin(angles), np.cos(angles)
    sine.flags.writeable = cosine.flags.writeable = False  # every caller gets the same arrays
    return sine, cosine
