"""Activation functions: plain functions of an array.

Every function is right over the whole floating-point range, the infinities included wherever a limit exists. The
hand-written derivatives are in ``fnnet.backprop.activations``. At a kink, where the derivative is a matter of choice,
the docstring states the choice, and ``jax.grad`` makes the same one. At NaN the value and the derivative are NaN (the
derivative of ``identity`` is 1 everywhere).

In the formulas ``z`` is the input and ``a = f(z)`` the output. Options are fixed with ``fnnet.bind``, as in
``bind(leaky_relu, slope=0.2)``.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.types import Array, Scalar

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "maxout",
    "mish",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
]

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
SQRT_HALF = math.sqrt(0.5)
SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
GATE_LIMIT = 40.0  # beyond it the gate of GELU's tanh form is 0 or 1 in every precision


def identity(z: Array) -> Array:
    """Return ``z``; ``f'(z) = 1``."""
    return jnp.asarray(z)


def sigmoid(z: Array) -> Array:
    """Return the logistic function ``σ(z) = 1 / (1 + exp(−z))``; ``σ'(z) = σ(z) (1 − σ(z))``."""
    return jax.nn.sigmoid(z)


def tanh(z: Array) -> Array:
    """Return ``tanh(z) = (exp(z) − exp(−z)) / (exp(z) + exp(−z))``; ``tanh'(z) = 1 − tanh²(z)``."""
    return jnp.tanh(z)


def relu(z: Array) -> Array:
    """Return ``max(z, 0)``, the rectified linear unit; ``relu'(z) = [z > 0]``, which is 0 at the kink.

    Source: Nair and Hinton 2010, "Rectified linear units improve restricted Boltzmann machines".
    """
    return jnp.where(z <= 0, 0, z) * one_or_nan(z)  # jnp.maximum would have the derivative ½ at 0


def leaky_relu(z: Array, *, slope: Scalar = 0.01) -> Array:
    """Return ``z`` where ``z > 0``, else ``slope · z``; the derivative at the kink is ``slope``.

    Source: Maas, Hannun and Ng 2013, "Rectifier nonlinearities improve neural network acoustic models".
    """
    return jnp.where(z <= 0, checks.in_dtype(slope, z.dtype) * z, z) * one_or_nan(z)


def elu(z: Array, *, alpha: Scalar = 1.0) -> Array:
    """Return the exponential linear unit, ``z`` where ``z > 0``, else ``α (exp(z) − 1)``; ``elu'(0) = α``.

    Source: Clevert, Unterthiner and Hochreiter 2016, eq. 15.
    """
    return jnp.where(z > 0, z, checks.in_dtype(alpha, z.dtype) * jnp.expm1(jnp.where(z > 0, 0, z)))


def selu(z: Array) -> Array:
    """Return the scaled ELU, ``λ elu(z, α)`` with ``λ ≈ 1.0507`` and ``α ≈ 1.6733``; ``selu'(0) = λ α``.

    With these constants mean 0 and variance 1 are a fixed point (Klambauer et al. 2017, eq. 2 and 14).
    """
    return SELU_SCALE * elu(z, alpha=SELU_ALPHA)


def celu(z: Array, *, alpha: Scalar = 1.0) -> Array:
    """Return ``z`` where ``z > 0``, else ``α (exp(z / α) − 1)``, an ELU with a continuous derivative.

    ``alpha`` is above 0. Source: Barron 2017.
    """
    alpha = checks.in_dtype(alpha, z.dtype)
    return jnp.where(z > 0, z, alpha * jnp.expm1(jnp.where(z > 0, 0, z) / alpha))


def softplus(z: Array) -> Array:
    """Return ``log(1 + exp(z))``; ``softplus'(z) = σ(z)`` (Dugas et al. 2001)."""
    return jnp.logaddexp(z, jnp.zeros_like(z))


def log_sigmoid(z: Array) -> Array:
    """Return ``log σ(z) = −log(1 + exp(−z))``; the derivative is ``σ(−z)``."""
    return -softplus(-z)


def softsign(z: Array) -> Array:
    """Return ``z / (1 + |z|)``; ``softsign'(z) = 1 / (1 + |z|)²`` (Bergstra et al. 2009)."""
    z = finite(z)
    return z / (1 + jnp.abs(z))


def silu(z: Array) -> Array:
    """Return the sigmoid linear unit or swish, ``z σ(z)``; ``silu'(z) = σ(z) + z σ(z) (1 − σ(z))``.

    Source: Elfwing, Uchibe and Doya 2018; Ramachandran, Zoph and Le 2017.
    """
    return times_gate(z, sigmoid(z))


def gelu(z: Array, *, approximate: bool = False) -> Array:
    """Return the Gaussian error linear unit ``z Φ(z)``, with the normal distribution ``Φ(z) = ½ erfc(−z / √2)``.

    With ``approximate=True`` the result is the tanh form ``½ z (1 + tanh(√(2/π) (z + 0.044715 z³)))``, computed as
    ``z σ(2 √(2/π) (z + 0.044715 z³))``, which is equal. Source: Hendrycks and Gimpel 2016, section 2.
    """
    if approximate:
        return times_gate(z, sigmoid(gelu_gate(jnp.clip(z, -GATE_LIMIT, GATE_LIMIT))))
    return times_gate(z, 0.5 * jax.lax.erfc(-z * SQRT_HALF))


def gelu_gate(z: Array) -> Array:
    """Return ``2 √(2/π) (z + 0.044715 z³)``, whose sigmoid is the gate of GELU's tanh form."""
    return 2 * SQRT_2_OVER_PI * (z + 0.044715 * z**3)


def mish(z: Array) -> Array:
    """Return ``z tanh(log(1 + exp(z)))`` (Misra 2019, eq. 1)."""
    return times_gate(z, jnp.tanh(softplus(z)))


def hard_sigmoid(z: Array) -> Array:
    """Return ``(z + 3) / 6`` where ``−3 < z < 3``, else 0 or 1; the derivative at both kinks is 0.

    Source: Courbariaux, Bengio and David 2015, with the slope 1/6 of Howard et al. 2019.
    """
    return jnp.where(z <= -3, 0, jnp.where(z >= 3, 1, (z + 3) / 6)) * one_or_nan(z)


def hard_tanh(z: Array) -> Array:
    """Return ``z`` where ``−1 < z < 1``, else −1 or 1; the derivative at both kinks is 0 (Collobert 2004)."""
    return jnp.where(z <= -1, -1, jnp.where(z >= 1, 1, z)) * one_or_nan(z)


def hard_silu(z: Array) -> Array:
    """Return ``z hard_sigmoid(z)``; the derivative is 0 at −3 and 1 at 3 (Howard et al. 2019)."""
    middle = jnp.clip(z, -3, 3)
    return jnp.where(z <= -3, 0, jnp.where(z >= 3, z, middle * (middle + 3) / 6))


def glu(z: Array, *, axis: int = -1) -> Array:
    """Return the gated linear unit ``u ⊙ σ(v)``, where ``u`` and ``v`` are the halves of ``z`` along ``axis``.

    The output has half the length of ``z`` along ``axis``. Source: Dauphin et al. 2017, eq. 1.
    """
    u, v = glu_halves(z, axis)
    return jnp.where(jnp.isinf(u) & (v > -jnp.inf), u, u * sigmoid(v))  # a gate that rounds to 0 is not 0


def glu_halves(z: Array, axis: int) -> tuple[Array, Array]:
    """Return ``u`` and ``v`` of ``glu``."""
    checks.require(
        length("activations.glu", z, axis) % 2 == 0,
        f"activations.glu: axis {axis} of shape {z.shape} cannot be halved; expected an even length",
    )
    u, v = jnp.split(z, 2, axis)
    return u, v


def maxout(z: Array, *, pieces: int = 2, axis: int = -1) -> Array:
    """Return the largest of every ``pieces`` neighbours along ``axis``, which becomes shorter by that factor.

    ``a_i = max(z_{i k}, ..., z_{i k + k − 1})`` with ``k = pieces``. Among equals the first one counts: it alone has
    the derivative 1. Source: Goodfellow et al. 2013, eq. 1 and 2.
    """
    groups = maxout_groups(z, pieces, axis)
    largest = jnp.where(first_largest(groups), groups * one_or_nan(groups), 0).sum(-1)
    return jnp.moveaxis(largest, -1, axis)


def maxout_groups(z: Array, pieces: int, axis: int) -> Array:
    """Return ``z`` with ``axis`` moved to the end and split into ``(length / pieces, pieces)``."""
    checks.positive_integer("activations.maxout", "pieces", pieces)
    checks.require(
        length("activations.maxout", z, axis) % pieces == 0,
        f"activations.maxout: axis {axis} of shape {z.shape} does not split into groups of {pieces}; "
        f"expected a multiple of {pieces}",
    )
    last = jnp.moveaxis(z, axis, -1)
    return last.reshape(*last.shape[:-1], last.shape[-1] // pieces, pieces)


def first_largest(groups: Array) -> Array:
    """Return booleans that are True at the first largest entry of the last axis, and at every NaN."""
    return (groups.argmax(-1, keepdims=True) == jnp.arange(groups.shape[-1])) | jnp.isnan(groups)


def softmax(z: Array, *, axis: int = -1) -> Array:
    """Return ``softmax(z)_i = exp(z_i) / Σ_j exp(z_j)`` along ``axis``; ``∂a_i/∂z_j = a_i ([i = j] − a_j)``.

    The maximum is subtracted first: this changes nothing on paper and keeps ``exp`` from overflowing.
    """
    length("activations.softmax", z, axis)
    e = jnp.exp(below_maximum(z, axis))
    return e / e.sum(axis, keepdims=True)


def log_softmax(z: Array, *, axis: int = -1) -> Array:
    """Return ``log softmax(z)_i = z_i − log Σ_j exp(z_j)`` along ``axis``; ``∂a_i/∂z_j = [i = j] − softmax(z)_j``."""
    length("activations.log_softmax", z, axis)
    shifted = below_maximum(z, axis)
    return shifted - jnp.log(jnp.exp(shifted).sum(axis, keepdims=True))


def below_maximum(z: Array, axis: int) -> Array:
    """Return ``z − max z`` along ``axis``; the derivative takes the maximum as a constant, which cancels."""
    largest = z.max(axis, keepdims=True, initial=-jnp.inf)  # an empty axis has a maximum too
    return jnp.where(z == jnp.inf, 0, z - jax.lax.stop_gradient(largest))


def length(place: str, z: Array, axis: int) -> int:
    """Return the length of ``z`` along ``axis``, or raise if it has no such axis."""
    checks.require(
        -z.ndim <= axis < z.ndim, f"{place}: z has shape {z.shape}, which has no axis {axis}; choose one that it has"
    )
    return z.shape[axis]


def finite(z: Array) -> Array:
    """Return ``z`` with large finite numbers in place of the infinities, for formulas such as ``∞ / ∞`` and ``∞ · 0``.

    The number is the square root of the largest one: for every function here it is as good as infinite, and products
    with it stay finite.
    """
    return jnp.where(jnp.isinf(z), jnp.sign(z) * math.sqrt(jnp.finfo(z.dtype).max), z)


def one_or_nan(z: Array) -> Array:
    """Return 1, and NaN where ``z`` is NaN, as a factor that makes a value and its derivative NaN.

    A comparison would send NaN to one side of a kink.
    """
    return jnp.where(jnp.isnan(z), jnp.nan, 1).astype(z.dtype)


def magnitude(z: Array) -> Array:
    """Return ``|z|`` with the derivative ``sign(z)``, which is 0 at 0 (that of ``jnp.abs`` is 1)."""
    return z * jnp.sign(z)


def times_gate(z: Array, gate: Array) -> Array:
    """Return ``z · gate`` for a gate that is 0 at ``z = −∞`` and 1 at ``z = ∞``, where the limits are 0 and ∞."""
    return jnp.where(z == jnp.inf, z, finite(z) * gate)
