"""Eigenvalues and singular values of matrices: what repeated multiplication does in the long run, and in one step."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.types import Array, Scalar


def spectral_radius(matrix: Array) -> Array:
    """Return ``ρ(A) = max |λ|`` over the eigenvalues ``λ`` of a square matrix, or of each matrix in ``(..., n, n)``.

    It is computed as Gelfand's limit ``ρ = lim ‖Aᵏ‖^(1/k)`` (1941) with ``k = 2, 4, 8, ...``, where every square is
    scaled to norm 1 and the last ``k`` makes the error smaller than the rounding. This takes products of matrices alone
    and so runs on every device, while the eigenvalues of matrices that are not symmetric are often not available.

    The derivative is right where the largest eigenvalue is real and simple. For a complex pair only the value is right,
    because the derivatives of ``‖Aᵏ‖^(1/k)`` have no limit there.
    """
    check_square("spectral_radius", matrix)
    a = matrix.astype(checks.at_least_float32(matrix))
    squarings = jnp.finfo(a.dtype).nmant + 4

    def step(a: Array, weight: Array) -> tuple[Array, Array]:
        largest = jnp.abs(a).max((-2, -1), keepdims=True)  # a norm that neither overflows nor underflows
        a = a / jnp.where(largest > 0, largest, 1)
        # Some devices round the factors to fewer bits by default, which would change the eigenvalue.
        return jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST), weight * jnp.log(largest[..., 0, 0])

    weights = 2.0 ** -jnp.arange(squarings, dtype=a.dtype)
    _, logs = jax.lax.scan(step, a, weights)
    return jnp.exp(logs.sum(0)).astype(matrix.dtype)


def singular_values(matrix: Array) -> Array:
    """Return the singular values of ``(..., m, n)`` in falling order, ``(..., min(m, n))``. The first is ``‖A‖₂``."""
    checks.require(matrix.ndim >= 2, f"singular_values: matrix has shape {matrix.shape}; expected at least two axes")
    checks.floating("singular_values", "matrix", matrix)
    wide = matrix.astype(checks.at_least_float32(matrix))
    return jnp.linalg.svd(wide, compute_uv=False).astype(matrix.dtype)


def scaled_to_radius(matrix: Array, radius: Scalar) -> Array:
    """Return ``radius / ρ(A) · A``, whose spectral radius is ``radius``. It is NaN where ``ρ(A) = 0``."""
    checks.in_range("scaled_to_radius", "radius", radius, 0, float("inf"))
    return matrix * (checks.in_dtype(radius, matrix.dtype) / spectral_radius(matrix))[..., None, None].astype(
        matrix.dtype
    )


def check_square(caller: str, matrix: Array) -> None:
    checks.require(
        matrix.ndim >= 2 and matrix.shape[-1] == matrix.shape[-2],
        f"{caller}: matrix has shape {matrix.shape}; expected (..., n, n): only square matrices have eigenvalues",
    )
    checks.floating(caller, "matrix", matrix)
