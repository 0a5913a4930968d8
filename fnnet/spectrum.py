"""Eigenvalues and singular values of matrices: what repeated multiplication does in the long run, and in one step."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.types import Array, Scalar


def spectral_radius(matrix: Array) -> Array:
    """``ρ(A) = max |λ|`` over the eigenvalues ``λ`` of a square matrix, or of each in ``(..., n, n)``.

    Computed as Gelfand's limit ``ρ = lim ‖Aᵏ‖^(1/k)`` (1941) with ``k = 2, 4, 8, ...``, every square scaled to norm 1:
    products of matrices alone, so that it runs on every device, where eigenvalues of matrices that are not symmetric
    are often not available. ``k`` ends where its error is below rounding. It has a derivative where the largest
    eigenvalue is real and simple; of a complex pair the value alone is right, as the limit of the derivatives of
    ``‖Aᵏ‖^(1/k)`` does not exist there.
    """
    place = "spectral_radius"
    square(place, matrix)
    a = matrix.astype(checks.at_least_float32(matrix))
    squarings = jnp.finfo(a.dtype).nmant + 4

    def step(a: Array, weight: Array) -> tuple[Array, Array]:
        norm = jnp.abs(a).max((-2, -1), keepdims=True)  # any norm will do; of this one nothing underflows
        a = a / jnp.where(norm > 0, norm, 1)
        # Rounding to fewer bits, the default of some devices, would be felt as an eigenvalue.
        return jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST), weight * jnp.log(norm[..., 0, 0])

    weights = 2.0 ** -jnp.arange(squarings, dtype=a.dtype)
    _, logs = jax.lax.scan(step, a, weights)
    return jnp.exp(logs.sum(0)).astype(matrix.dtype)


def singular_values(matrix: Array) -> Array:
    """The singular values of ``(..., m, n)``, the largest first, ``(..., min(m, n))``; the first is ``‖A‖₂``."""
    checks.require(matrix.ndim >= 2, f"singular_values: matrix has shape {matrix.shape}; expected at least two axes")
    checks.floating("singular_values", "matrix", matrix)
    wide = matrix.astype(checks.at_least_float32(matrix))
    return jnp.linalg.svd(wide, compute_uv=False).astype(matrix.dtype)


def scaled_to_radius(matrix: Array, radius: Scalar) -> Array:
    """``radius / ρ(A) · A``, whose spectral radius is ``radius``. Not a number where ``ρ(A) = 0``."""
    checks.in_range("scaled_to_radius", "radius", radius, 0, float("inf"))
    return matrix * (radius / spectral_radius(matrix))[..., None, None].astype(matrix.dtype)


def square(place: str, matrix: Array) -> None:
    checks.require(
        matrix.ndim >= 2 and matrix.shape[-1] == matrix.shape[-2],
        f"{place}: matrix has shape {matrix.shape}; expected (..., n, n): only square matrices have eigenvalues",
    )
    checks.floating(place, "matrix", matrix)
