"""How gradients differ from example to example, and the batch size from which on larger batches stop to help."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.checks import at_least_float32
from fnnet.inspect.curvature.products import Objective
from fnnet.inspect.curvature.vectors import Where, everywhere
from fnnet.optimizers.leaves import chosen
from fnnet.types import Array, Batch, Params, Scalar


class GradientStatistics(NamedTuple):
    """The mean of ``M`` gradients and their variance ``Σ (g_m − ḡ)² / (M − 1)``, entry by entry, as trees."""

    mean: Params
    variance: Params

    def signal_to_noise(self) -> Params:
        """Return ``ḡ² / Var g`` of every entry, which is infinite where the gradients do not differ."""
        return jax.tree.map(lambda mean, variance: jnp.square(mean) / variance, self.mean, self.variance)


def gradient_statistics(
    cost: Objective,
    params: Params,
    data: Batch,
    *,
    batch_size: int = 1,
    chunk: int = 64,
    where: Where = everywhere,
) -> GradientStatistics:
    """Return the mean and the variance of the gradients of single examples, or of batches of ``batch_size`` examples.

    ``data`` is ``(x, y)`` with ``N`` examples; there are ``M = N // batch_size ≥ 2`` gradients, in the order of the
    data, and the examples that are left over are left out. ``chunk`` of them are computed at the same time, in the
    memory of that many parameter trees. Statistics are in at least float32, and zero at the parameters that ``where``
    does not choose by their names. ``cost`` is a ``Cost`` or any function ``(params, batch) -> scalar``; a penalty adds
    to the mean alone.
    """
    caller = "curvature.gradient_statistics"
    checks.positive_integer(caller, "batch_size", batch_size)
    checks.positive_integer(caller, "chunk", chunk)
    checks.require(
        len(data) == 2,
        f"{caller}: data has {len(data)} arrays; expected (x, y): weights have no meaning for single examples",
    )
    arrays = tuple(jnp.asarray(a) for a in data)
    count = len(arrays[0]) // batch_size
    checks.require(
        len(arrays[0]) == len(arrays[1]) and count > 1,
        f"{caller}: x has {len(arrays[0])} examples and y has {len(arrays[1])}; expected the same number, at least two "
        f"batches of {batch_size}",
    )
    mask = chosen(caller, where, params)
    batches = tuple(a[: count * batch_size].reshape(count, batch_size, *a.shape[1:]) for a in arrays)

    def of_chunk(batches: Any) -> tuple[Params, Params]:
        """Return the means and the sums of squared differences from them."""
        grads = jax.vmap(lambda batch: jax.grad(cost)(params, batch))(batches)
        wide = jax.tree.map(lambda g, m: g.astype(at_least_float32(g)) if m else jnp.zeros(g.shape), grads, mask)
        means = jax.tree.map(lambda g: g.mean(0), wide)
        return means, jax.tree.map(lambda g, mean: jnp.square(g - mean).sum(0), wide, means)

    def merge(total: Any, counted: Scalar, new: Any, added: int) -> Any:
        """Return both moments of two sets of gradients together (Chan, Golub and LeVeque 1983, eq. 2.1)."""
        counts = counted + added
        shift = jax.tree.map(jnp.subtract, new[0], total[0])
        means = jax.tree.map(lambda mean, d: mean + d * jnp.asarray(added / counts, d.dtype), total[0], shift)
        between = jax.tree.map(lambda d: jnp.square(d) * jnp.asarray(counted * added / counts, d.dtype), shift)
        return means, jax.tree.map(lambda a, b, c: a + b + c, total[1], new[1], between)

    full, left = divmod(count, chunk)

    def add(carry: Any, batches: Any) -> tuple[Any, None]:
        total, counted = carry
        return (merge(total, counted, of_chunk(batches), chunk), counted + chunk), None

    chunks = tuple(b[: full * chunk].reshape(full, chunk, *b.shape[1:]) for b in batches)
    one = jax.eval_shape(of_chunk, tuple(b[:1] for b in batches))
    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), one)
    (total, _), _ = jax.lax.scan(add, (zero, jnp.zeros(())), chunks)
    if left:
        total = merge(total, full * chunk, of_chunk(tuple(b[full * chunk :] for b in batches)), left)
    means, squares = total
    return GradientStatistics(means, jax.tree.map(lambda s: s / (count - 1), squares))


class NoiseScale(NamedTuple):
    """Unbiased estimates of ``|G|²``, the squared norm of the true gradient, and ``S = tr Σ``, the noise of an example.

    To combine estimates, average both numbers, not their ratio: ``jax.tree.map(jnp.mean, estimates).batch_size``.
    """

    signal: Array
    noise: Array

    @property
    def batch_size(self) -> Array:
        """The simple noise scale ``S / |G|²``: with this many examples, signal and noise of a gradient are equal.

        Up to about this batch size, twice the batch takes half the steps; far above it, nearly as many. ``signal`` of
        few examples may be negative, and then so is this number: take more examples.
        """
        return self.noise / self.signal


def gradient_noise_scale(
    cost: Objective,
    params: Params,
    data: Batch,
    *,
    batch_size: int = 1,
    chunk: int = 64,
    where: Where = everywhere,
) -> NoiseScale:
    """Return the gradient noise scale from the gradients of all examples, or of batches of ``batch_size`` examples.

    With ``M`` gradients of ``b = batch_size`` examples, their mean ``ḡ`` and sample variance ``Var``:
    ``S = b tr Var`` and ``|G|² = |ḡ|² − tr Var / M``. This is ``noise_scale`` for the batch sizes ``b`` and ``M b``.
    The arguments are those of ``gradient_statistics``.

    Source: McCandlish et al. 2018, "An empirical model of large-batch training", section 2.2 and appendix A.1.
    """
    statistics = gradient_statistics(cost, params, data, batch_size=batch_size, chunk=chunk, where=where)
    variance, norm = squared_sum(statistics.variance, jnp.asarray), squared_sum(statistics.mean, jnp.square)
    return NoiseScale(norm - variance / (len(data[0]) // batch_size), batch_size * variance)


def noise_scale(small: Array, large: Array, small_size: int, large_size: int) -> NoiseScale:
    """Return the noise scale from the squared norms of a gradient over few and over many examples.

    ``small = |g_b|²`` for ``b = small_size`` examples and ``large = |g_B|²`` for ``B = large_size > b``:
    ``|G|² = (B |g_B|² − b |g_b|²) / (B − b)``,  ``S = (|g_b|² − |g_B|²) / (1/b − 1/B)``. One pair of gradients gives a
    very rough estimate; average over many steps. Devices that split a batch, and the accumulation of gradients, have
    both norms for nothing.

    Source: McCandlish et al. 2018, appendix A.1.
    """
    checks.require(
        0 < small_size < large_size,
        f"curvature.noise_scale: small_size is {small_size} and large_size {large_size}; expected 0 < small < large",
    )
    signal = (large_size * large - small_size * small) / (large_size - small_size)
    return NoiseScale(signal, (small - large) / (1 / small_size - 1 / large_size))


def squared_sum(tree: Params, function: Any) -> Array:
    leaves = jax.tree.leaves(tree)
    widest = at_least_float32(*leaves)
    return jnp.stack([function(leaf).sum().astype(widest) for leaf in leaves]).sum()
