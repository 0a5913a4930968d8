"""Eigenvalues and the density of the spectrum of a symmetric operator, such as the Hessian, by Lanczos' method.

From a unit vector ``q₁``, ``m`` products with ``A`` give orthonormal vectors ``Q = (q₁ ... q_m)`` with ``Qᵀ A Q = T``,
a tridiagonal matrix. The eigenvalues of ``T`` approach those at both ends of the spectrum of ``A`` first, and together
with the first entries of its eigenvectors they are the nodes and weights of a Gauss quadrature of ``q₁ᵀ f(A) q₁``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.inspect.curvature.vectors import Product, Where, block_of, everywhere
from fnnet.types import Array, Params, Scalar

EXACT = jax.lax.Precision.HIGHEST  # some devices round float32 factors to 11 bits by default


class Tridiagonal(NamedTuple):
    """``T (m, m)``, the basis ``(m, n)`` with ``q_i`` as its rows, and the norm of what ``A q_m`` has outside of it."""

    matrix: Array
    basis: Array
    last: Array


def tridiagonal(product: Callable[[Array], Array], start: Array, steps: int, key: Array) -> Tridiagonal:
    """Return Lanczos' ``T`` after ``min(steps, n)`` products with a symmetric operator on vectors ``(n,)``.

    Every new vector is orthogonalized twice against all others, without which eigenvalues would appear several times.
    Where the vectors so far span an invariant subspace, the method goes on from a random vector outside of it.

    Source: Lanczos 1950; Golub and Van Loan 2013, "Matrix computations", section 10.3.
    """
    size, steps = start.size, min(steps, start.size)
    tiny = 10 * jnp.finfo(start.dtype).eps

    def without(w: Array, basis: Array) -> Array:
        for _ in range(2):
            w = w - jnp.matmul(jnp.matmul(basis, w, precision=EXACT), basis, precision=EXACT)
        return w

    def unit(w: Array) -> Array:
        length = jnp.linalg.norm(w)
        return w / jnp.where(length > 0, length, 1)

    def step(carry: tuple[Array, Array, Array], i: Array) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
        basis, q, largest = carry
        basis = basis.at[i].set(q)
        image = product(q).astype(q.dtype)
        alpha = jnp.vdot(q, image, precision=EXACT)
        w = without(image, basis)
        beta = jnp.linalg.norm(w)
        largest = jnp.maximum(largest, jnp.linalg.norm(image))
        invariant = beta <= tiny * largest
        elsewhere = jax.random.normal(jax.random.fold_in(key, i), (size,), start.dtype)
        w = jnp.where(invariant, elsewhere, unit(w))
        q = unit(without(unit(without(w, basis)), basis))
        return (basis, q, largest), (alpha, jnp.where(invariant, 0, beta))

    first = jnp.zeros((steps, size), start.dtype), unit(start), jnp.zeros((), start.dtype)
    (basis, _, _), (alphas, betas) = jax.lax.scan(step, first, jnp.arange(steps))
    beside = jnp.diag(betas[:-1], 1)
    # After n products nothing is outside of the basis but rounding.
    last = betas[-1] if steps < size else jnp.zeros((), start.dtype)
    return Tridiagonal(jnp.diag(alphas) + beside + beside.T, basis, last)


class Eigenpairs(NamedTuple):
    """``k`` eigenvalues ``(k,)``, the outermost first, with their eigenvectors and the errors of both.

    ``vectors`` is a tree like the parameters with an axis of length ``k`` in front; each vector has length 1 over all
    leaves. ``residuals (k,)`` are ``‖A v − λ v‖``: an eigenvalue of ``A`` lies within this distance of ``λ``.
    """

    values: Array
    vectors: Params
    residuals: Array


class Eigenvalues(NamedTuple):
    """The eigenpairs at both ends of a spectrum."""

    largest: Eigenpairs
    smallest: Eigenpairs


def eigenvalues(
    product: Product,
    params: Params,
    *,
    key: Array,
    k: int = 1,
    steps: int | None = None,
    where: Where = everywhere,
) -> Eigenvalues:
    """Return the ``k`` largest and the ``k`` smallest eigenvalues of a symmetric operator, by Lanczos' method.

    ``product(v) = A v`` takes and returns trees like ``params``, such as ``partial(hvp, cost, params, batch)``.
    ``steps`` is the number of products, ``2 k + 20`` unless given, and never more than there are parameters; raise it
    until ``residuals`` are small enough. The error of an eigenvalue is at most its residual, and about its square
    divided by the gap to the next eigenvalue. The memory is that of ``steps`` parameter trees. A start vector finds one
    eigenvector of each eigenvalue, so a repeated eigenvalue may be found only once.

    ``where`` chooses parameters by their names, as in the optimizers: the eigenvalues are then those of the block that
    belongs to them, and the vectors are zero elsewhere. ``key`` draws the start vector.
    """
    caller = "curvature.eigenvalues"
    block = block_of(caller, product, params, where)
    checks.positive_integer(caller, "k", k)
    checks.positive_integer(caller, "steps", steps := 2 * k + 20 if steps is None else steps)
    checks.require(
        k <= min(steps, block.size),
        f"{caller}: k is {k} but there are {steps} steps and {block.size} chosen parameters; expected at most as many "
        f"eigenvalues as either",
    )
    start_key, later = jax.random.split(key)
    start = jax.random.normal(start_key, (block.size,), block.dtype)
    t = tridiagonal(block.product, start, steps, later)
    values, within = jnp.linalg.eigh(t.matrix)

    def pairs(chosen: Any) -> Eigenpairs:
        y = within[:, chosen]
        vectors = jax.vmap(block.tree)(jnp.matmul(y.T, t.basis, precision=EXACT))
        return Eigenpairs(values[chosen], vectors, jnp.abs(t.last * y[-1]))

    return Eigenvalues(pairs(jnp.arange(len(values) - 1, len(values) - 1 - k, -1)), pairs(jnp.arange(k)))


class SpectralDensity(NamedTuple):
    """A spectrum as point masses ``nodes (S, m)`` with ``weights (S, m)`` that add up to 1 in each of ``S`` samples.

    ``(weights * f(nodes)).sum(1)`` estimates ``tr f(A) / n`` once per sample, for ``n`` eigenvalues.
    """

    nodes: Array
    weights: Array

    def smoothed(self, at: Array, width: Scalar) -> Array:
        """Return the density at the points ``at (G,)`` with every mass as a Gaussian of standard deviation ``width``.

        The area is 1. ``at`` and ``width`` may be the logarithms of eigenvalues and a width on that scale, if the nodes
        are replaced by their logarithms first.
        """
        distances = (at[:, None, None] - self.nodes) / width
        bells = jnp.exp(-0.5 * jnp.square(distances)) / (width * jnp.sqrt(2 * jnp.pi).astype(self.nodes.dtype))
        return (self.weights * bells).sum(-1).mean(-1)


def spectral_density(
    product: Product,
    params: Params,
    *,
    key: Array,
    steps: int = 50,
    samples: int = 10,
    where: Where = everywhere,
) -> SpectralDensity:
    """Return the density of the eigenvalues of a symmetric operator, by stochastic Lanczos quadrature.

    For each of ``samples`` random vectors of ±1, scaled to length 1, ``steps`` products give a Gauss quadrature: the
    nodes ``θ_i`` are the eigenvalues of ``T`` and the weights ``τ_i`` the squares of the first entries of its
    eigenvectors. ``Σ_i τ_i θ_i^j = vᵀ Aʲ v`` is exact for ``j < 2 steps``, and its mean over ``v`` is ``tr Aʲ / n``.
    The operator and ``where`` are as in ``eigenvalues``. The samples are taken one after the other, in the memory of
    ``steps`` parameter trees.

    Source: Ubaru, Chen and Saad 2017, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", algorithm 1.
    """
    caller = "curvature.spectral_density"
    checks.positive_integer(caller, "steps", steps)
    checks.positive_integer(caller, "samples", samples)
    block = block_of(caller, product, params, where)

    def one(i: Array) -> tuple[Array, Array]:
        start_key, later = jax.random.split(jax.random.fold_in(key, i))
        start = jax.random.rademacher(start_key, (block.size,), block.dtype)
        nodes, within = jnp.linalg.eigh(tridiagonal(block.product, start, steps, later).matrix)
        return nodes, jnp.square(within[0])

    return SpectralDensity(*jax.lax.map(one, jnp.arange(samples)))
