"""Double-length arithmetic: float32 numbers as unevaluated sums of two, with about 44 bits right instead of 24.

For derivatives that are the small difference of large terms. ``two_sum`` and ``two_product`` give what rounding takes
away (Knuth, The Art of Computer Programming, volume 2, section 4.2.2; Dekker 1971); from them come the four operations
(Ogita, Rump and Oishi 2005), the sum over an axis, the exponential and the logarithm. ``+ − * /`` work between doubles,
arrays and Python numbers, so that a formula written once holds for arrays and for doubles.

XLA turns ``(a + c) − c`` into ``a`` where ``c`` is a constant; the forms below leave it nothing to simplify.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.types import Array

LONGEST_AXIS = 128


def worth_it(x: Array) -> bool:
    """Whether a gradient along the last axis of ``x`` is computed in double length: in float32, on axes not too long.

    It costs several times the plain formula: nothing beside a network with 10 classes, but tenths of a second in a step
    with a vocabulary of 32,000, where the rounding of the sum over the classes limits the digits of both anyway.
    """
    return bool(x.dtype == jnp.float32) and x.shape[-1] <= LONGEST_AXIS


@dataclass(frozen=True, eq=False)
class Double:
    """``high + low`` with ``|low|`` at most about half a unit in the last place of ``high``; both float32."""

    high: Array
    low: Array

    def __neg__(self) -> Double:
        return Double(-self.high, -self.low)

    def __add__(self, other: Any) -> Double:
        other = double(other)
        total = two_sum(self.high, other.high)
        return two_sum(total.high, total.low + (self.low + other.low))

    def __mul__(self, other: Any) -> Double:
        other = double(other)
        product = two_product(self.high, other.high)
        return two_sum(product.high, product.low + (self.high * other.low + self.low * other.high))

    def __truediv__(self, other: Any) -> Double:
        other = double(other)
        first = self.high / other.high
        return two_sum(first, (self - other * first).high / other.high)

    def __sub__(self, other: Any) -> Double:
        return self + -double(other)

    def __radd__(self, other: Any) -> Double:
        return self + other

    def __rsub__(self, other: Any) -> Double:
        return -self + other

    def __rmul__(self, other: Any) -> Double:
        return self * other


def double(x: Any) -> Double:
    """An array as it is; a Python number to all the digits that fit."""
    if isinstance(x, Double):
        return x
    if isinstance(x, jax.Array):
        return Double(x, jnp.zeros_like(x))
    wide = np.asarray(x, np.float64)
    high = wide.astype(np.float32)
    return Double(jnp.asarray(high), jnp.asarray((wide - high).astype(np.float32)))


def where(condition: Array, x: Any, y: Any) -> Double:
    x, y = double(x), double(y)
    return Double(jnp.where(condition, x.high, y.high), jnp.where(condition, x.low, y.low))


def two_sum(a: Array, b: Array) -> Double:
    """``a + b`` exactly, by Dekker's subtraction of the larger."""
    total = a + b
    swap = jnp.abs(a) < jnp.abs(b)
    large, small = jnp.where(swap, b, a), jnp.where(swap, a, b)
    return Double(total, small - (total - large))


def two_product(a: Array, b: Array) -> Double:
    """``a b`` exactly, from halves of 12 bits, whose products are exact."""
    product = a * b
    (a1, a2), (b1, b2) = halves(a), halves(b)
    return Double(product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2)


def halves(a: Array) -> tuple[Array, Array]:
    upper = jax.lax.reduce_precision(a, exponent_bits=8, mantissa_bits=11)
    return upper, a - upper


def total(x: Double) -> Double:
    """The sum over the last axis, which is kept with length 1.

    Twice what is a multiple of a grid is taken off, on which numbers of this many have an exact sum (Rump, Ogita and
    Oishi 2008); the small rest is summed as it is.
    """
    size = jnp.abs(x.high).max(-1, keepdims=True, initial=SMALLEST_SIZE)
    spare = 2.0 ** (math.ceil(math.log2(max(x.high.shape[-1], 1))) - 23)
    first = power_of_2_within(size) * spare
    coarse = jnp.round(x.high / first) * first
    rest = x.high - coarse
    second = first * spare
    fine = jnp.round(rest / second) * second
    sums = [part.sum(-1, keepdims=True) for part in (coarse, fine, (rest - fine) + x.low)]
    return two_sum(sums[0], sums[1]) + sums[2]


def power_of_2_within(size: Array) -> Array:
    """The largest power of 2 that is at most ``size``, by its bits."""
    bits = jax.lax.bitcast_convert_type(size, jnp.int32)
    return jax.lax.bitcast_convert_type(bits & 0x7F800000, jnp.float32)


# log 2 in three parts, of which the first two have so few digits that their products with an exponent are exact
LOG_2 = (355 / 512, -3560 / 2**24, math.log(2) - 355 / 512 + 3560 / 2**24)
SMALLEST_SIZE = 2.0**-60
FAR = -104.0  # exp(−104) is less than half of the smallest number


def exp(x: Double) -> Double:
    """``exp(x)`` for ``x ≤ 88``; 0 below the smallest normal number."""
    scale, m = scaled_expm1(where(x.high < FAR, FAR, x))
    y = 1 + m
    return Double(scale * y.high, scale * y.low)


def scaled_expm1(x: Double) -> tuple[Array, Double]:
    """``2^k`` and ``m = exp(2r) − 1`` with ``x = k log 2 + 2r`` and ``|r| ≤ ¼ log 2``, to a relative 2⁻³⁰.

    ``exp(r) − 1 = r + r²/2 + r³/6 (1 + r/4 (1 + r/5 (...)))``, of which the small last term has single length; then
    ``m = n (2 + n)`` with this ``n``.
    """
    k = jnp.round(x.high * (1 / math.log(2)))
    r = two_sum(x.high - k * LOG_2[0], -k * LOG_2[1])
    r = two_sum(r.high, r.low + (x.low - k * LOG_2[2]))
    high, low = 0.5 * r.high, 0.5 * r.low
    square = two_product(high, high)
    tail = high
    for factor in (8, 7, 6, 5, 4):
        tail = high * (1 + tail * (1 / factor))
    tail = square.high * tail * (1 / 6)
    n = two_sum(high, 0.5 * square.high)
    n = two_sum(n.high, n.low + (tail + (0.5 * square.low + (low + low * high))))
    return power_of_2(k), n * n + Double(2 * n.high, 2 * n.low)


def power_of_2(k: Array) -> Array:
    """``2^k`` for whole ``k ≤ 127``, by its bits; 0 below ``k = −126``."""
    bits = jnp.left_shift(k.astype(jnp.int32) + 127, 23)
    return jnp.where(k < -126, 0, jax.lax.bitcast_convert_type(bits, jnp.float32))


def log(x: Double) -> Double:
    """One step of Newton's method, ``y + x exp(−y) − 1``, from ``y = log(high)``; for ``x`` not subnormal."""
    y = double(jnp.log(x.high))
    return y + (x * exp(-y) - 1)


def log1p(x: Double) -> Double:
    """One step of Newton's method, ``y + (1 + x) exp(−y) − 1`` from ``y = log(1 + high)``; small results too."""
    y = double(jnp.log1p(x.high))
    scale, m = scaled_expm1(-y)
    w = Double(scale * m.high, scale * m.low) + (scale - 1)  # exp(−y) − 1
    return y + (x + w + x * w)
