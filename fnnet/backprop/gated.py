"""Derivatives of the activation functions that are ``z`` times a gate: silu, gelu and mish.

Each has a root, left of 0, near which its formula loses digits: see ``roots``.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax.lax import erfc

from fnnet import activations as f
from fnnet.backprop import roots
from fnnet.backprop.roots import near_root
from fnnet.types import Array


def silu_forward(z: Array) -> tuple[Array, Array]:
    return f.silu(z), z


def silu_backward(z: Array, da: Array) -> Array:
    """a = z σ(z)  ⇒  dz = da ⊙ σ(z) (1 + z σ(−z))."""
    gate, other = gate_and_other(z)
    return da * near_root(roots.SILU, z, gate * (1 + f.finite(z) * other))


def gate_and_other(z: Array) -> tuple[Array, Array]:
    """``σ(z)`` and ``σ(−z) = 1 − σ(z) = exp(−z) σ(z)``, the one or the other where it does not cancel or overflow."""
    gate = f.sigmoid(z)
    return gate, jnp.where(z > 0, jnp.exp(jnp.where(z > 0, -z, 0)) * gate, 1 - gate)


def gelu_forward(z: Array, *, approximate: bool = False) -> tuple[Array, Array]:
    return f.gelu(z, approximate=approximate), z


def gelu_backward(z: Array, da: Array, *, approximate: bool = False) -> Array:
    """a = z Φ(z)  ⇒  dz = da ⊙ (Φ(z) + z φ(z)) with φ(z) = exp(−z²/2) / √(2π).

    The tanh form a = z σ(u(z))  ⇒  dz = da ⊙ (σ(u) + z σ(u) σ(−u) u'(z)) with u' = 2 √(2/π) (1 + 3 · 0.044715 z²).
    """
    if approximate:
        inside = jnp.clip(z, -f.GATE_LIMIT, f.GATE_LIMIT)  # outside of it the gate is constant
        gate, other = gate_and_other(f.gelu_gate(inside))
        slope = 2 * f.SQRT_2_OVER_PI + 6 * 0.044715 * f.SQRT_2_OVER_PI * inside**2
        return da * near_root(roots.GELU_TANH, z, gate * (1 + inside * other * slope))
    return da * near_root(roots.GELU, z, 0.5 * erfc(-z * f.SQRT_HALF) + f.finite(z) * normal_density(z))


def normal_density(z: Array) -> Array:
    """``φ(z) = exp(−z²/2) / √(2π)``, to the last digits also where ``z²`` is large.

    The rounding of ``z²`` would become a relative error ``z² ε`` of the result. With ``h`` the part of ``z`` whose
    square is exact, ``exp(−z²/2) = exp(−h²/2) exp(−(z − h)(z + h)/2)``. The constant stands between the two:
    next to each other XLA would make one exponential of them.
    """
    z = jnp.clip(z, -f.GATE_LIMIT, f.GATE_LIMIT)  # φ(40) is 0 in every precision
    h = jnp.round(z * 32) / 32
    return jnp.exp(-0.5 * h * h) * (f.SQRT_2_OVER_PI / 2) * jnp.exp(-0.5 * (z - h) * (z + h))


def mish_forward(z: Array) -> tuple[Array, Array]:
    return f.mish(z), z


def mish_backward(z: Array, da: Array) -> Array:
    """a = z tanh(log(1 + e)) with e = exp(z)  ⇒  dz = da ⊙ e ω / δ².

    ω = 4 (1 + z) + 4 e² + e³ + e (4 z + 6) and δ = 2 + 2 e + e² (Misra 2019, eq. 3).
    """
    inside = jnp.clip(z, -1000, 20)  # outside of it the derivative is 0 or 1 in every precision
    e = jnp.exp(inside)
    omega = 4 * (1 + inside) + e * ((4 * inside + 6) + e * (4 + e))
    delta = 2 + e * (2 + e)
    return da * near_root(roots.MISH, z, e * (omega / (delta * delta)))
