"""The derivatives of ``silu``, ``gelu`` and ``mish`` near their root, where the formulas lose their digits.

Left of 0 each of these functions has a minimum. Around it ``f'(z)`` is the small difference of larger terms, of which
little but rounding errors is left; a polynomial in ``z − r``, with ``r`` the float32 nearest to the root, has no such
difference: the subtraction is exact, and the constant ``f'(r)`` is smaller than any other value there.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from fnnet.types import Array


class Root(NamedTuple):
    """``f'(r + t) = Σ_k coefficients_k t^k`` for ``|t| < radius``.

    The first is ``f'(r)``; the others interpolate ``(f'(r + t) − f'(r)) / t``, taken at 50 digits, at the Chebyshev
    nodes of ``|t| ≤ radius``, with a relative error below 2⁻²⁸.
    """

    r: float
    radius: float
    coefficients: tuple[float, ...]


def near_root(root: Root, z: Array, slope: Array) -> Array:
    """``f'(z)`` by the polynomial near the root, else ``slope``; float64 has digits to spare and keeps ``slope``."""
    if z.dtype == jnp.float64:
        return slope
    t = z.astype(jnp.float32) - root.r
    near = jnp.abs(t) < root.radius
    t = jnp.where(near, t, 0)
    polynomial = jnp.zeros_like(t)
    for coefficient in reversed(root.coefficients):
        polynomial = polynomial * t + coefficient
    return jnp.where(near, polynomial.astype(z.dtype), slope)


# fmt: off
SILU = Root(-1.2784645557403564, 0.75, (
    -2.82703967e-09, 0.217811702, 0.146648797, 0.0188748332, -0.0152226771, -0.00660685328, 0.000126945099,
    0.000799903937, 0.000184120806, -4.40250507e-05, -2.64901874e-05,
))
GELU = Root(-0.7517915368080139, 0.75, (
    -5.2273121e-09, 0.431493983, 0.388284984, -0.0181996844, -0.114008232, -0.0147712414, 0.0194216619,
    0.00453707503, -0.00223940457, -0.000737354404, 0.000185881726, 7.40473718e-05, -1.04887646e-05,
))
GELU_TANH = Root(-0.7524614334106445, 0.75, (
    -4.88057699e-09, 0.430400082, 0.387518447, -0.0157828731, -0.113944473, -0.0166188124, 0.0196821237,
    0.00525708756, -0.00242130532, -0.000913501604, 0.00025890011, 0.000101091163, -2.65340731e-05,
))
MISH = Root(-1.1924312114715576, 0.75, (
    8.12572793e-10, 0.266947915, 0.204731264, 0.0419078257, -0.0202718173, -0.0158212274, -0.00336080224,
    0.00109314844, 0.000990709724, 0.000251728728, -4.50278857e-05, -5.25479644e-05, -1.24286479e-05,
))
