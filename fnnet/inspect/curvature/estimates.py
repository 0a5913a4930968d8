"""The trace and the diagonal of a symmetric operator from products with random vectors, with their standard errors."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.inspect.curvature.lanczos import EXACT
from fnnet.inspect.curvature.vectors import Block, Product, Where, block_of, everywhere
from fnnet.types import Array, Params


class Estimate(NamedTuple):
    """A mean over random samples and its standard error: in 95 % of the cases the truth is within 1.96 errors of it."""

    value: Any
    error: Any


def trace(
    product: Product,
    params: Params,
    *,
    key: Array,
    samples: int = 100,
    rank: int = 0,
    where: Where = everywhere,
) -> Estimate:
    """Return an unbiased estimate of the trace of a symmetric operator, and its standard error.

    With ``rank=0`` it is Hutchinson's: ``tr A ≈ mean gᵀ A g`` over ``samples`` random vectors ``g`` of ±1, with the
    variance ``2 (‖A‖_F² − Σ a_ii²) / samples``. It is exact for a diagonal matrix.

    With a ``rank`` it is Hutch++: an orthonormal basis ``Q`` of ``A S``, for ``rank`` random vectors ``S``, takes the
    largest eigenvalues exactly, and only the rest is left to chance::

        tr A ≈ tr Qᵀ A Q + mean gᵀ (I − Q Qᵀ) A (I − Q Qᵀ) g

    It takes ``2 rank + samples`` products and is exact if the rank of ``A`` is at most ``rank``. For a spectrum with a
    few large eigenvalues, as that of a trained network, its error is much smaller for as many products.

    The operator and ``where`` are as in ``eigenvalues``: the trace is that of the chosen block. At least 2 samples are
    needed for the standard error.

    Source: Hutchinson 1990; Meyer, Musco, Musco and Woodruff 2021, "Hutch++", algorithm 1.
    """
    caller = "curvature.trace"
    block = sampled_block(caller, product, params, samples, where)
    checks.require(
        isinstance(rank, int) and 0 <= rank <= block.size,
        f"{caller}: rank is {rank}; expected an integer from 0 to the number of chosen parameters, {block.size}",
    )
    sketch_key, sample_key = jax.random.split(key)
    within, basis = jnp.zeros((), block.dtype), jnp.zeros((0, block.size), block.dtype)
    if rank:
        sketch = jax.lax.map(lambda i: block.product(random_signs(block, sketch_key, i)), jnp.arange(rank))
        basis = jnp.linalg.qr(sketch.T)[0].T
        within = jax.lax.map(lambda q: quadratic_form(block, q), basis).sum()

    def sample(i: Array) -> Array:
        g = random_signs(block, sample_key, i)
        g = g - jnp.matmul(jnp.matmul(basis, g, precision=EXACT), basis, precision=EXACT)
        return quadratic_form(block, g)

    rest = mean_and_error(jax.lax.map(sample, jnp.arange(samples)))
    return Estimate(within + rest.value, rest.error)


def diagonal(
    product: Product, params: Params, *, key: Array, samples: int = 100, where: Where = everywhere
) -> Estimate:
    """Return an unbiased estimate of the diagonal of a symmetric operator, and the standard error of every entry.

    ``diag A ≈ mean g ⊙ A g`` over random vectors ``g`` of ±1. Entry ``i`` has the variance ``Σ_{j≠i} a_ij² / samples``;
    a diagonal matrix is found exactly. ``value`` and ``error`` are trees like ``params``, with zeros at the parameters
    that ``where`` does not choose. The operator is as in ``eigenvalues``.

    Source: Bekas, Kokiopoulou and Saad 2007, "An estimator for the diagonal of a matrix", eq. 2.
    """
    block = sampled_block("curvature.diagonal", product, params, samples, where)

    def add(moments: tuple[Array, Array, Array], i: Array) -> tuple[tuple[Array, Array, Array], None]:
        count, mean, squares = moments
        g = random_signs(block, key, i)
        sample = g * block.product(g)
        shift, count = sample - mean, count + 1
        mean = mean + shift / count
        return (count, mean, squares + shift * (sample - mean)), None

    zero = jnp.zeros(block.size, block.dtype)
    (_, mean, squares), _ = jax.lax.scan(add, (zero[0], zero, zero), jnp.arange(samples))
    return Estimate(block.tree(mean), block.tree(jnp.sqrt(squares / (samples - 1) / samples)))


def sampled_block(caller: str, product: Product, params: Params, samples: int, where: Where) -> Block:
    checks.positive_integer(caller, "samples", samples)
    checks.require(samples > 1, f"{caller}: samples is {samples}; expected at least 2, for the standard error")
    return block_of(caller, product, params, where)


def random_signs(block: Block, key: Array, i: Array) -> Array:
    """Return the random vector of ±1 with number ``i``."""
    return jax.random.rademacher(jax.random.fold_in(key, i), (block.size,), block.dtype)


def quadratic_form(block: Block, v: Array) -> Array:
    return jnp.vdot(v, block.product(v), precision=EXACT)


def mean_and_error(samples: Array) -> Estimate:
    return Estimate(samples.mean(), samples.std(ddof=1) / jnp.sqrt(len(samples)).astype(samples.dtype))
