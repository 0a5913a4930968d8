"""Hand-written derivatives of the activation functions.

A rule keeps the least that its derivative needs: sigmoid, tanh and softmax keep their output ``a``, ReLU keeps one byte
per entry, the side of its kink. ``da`` is the gradient with respect to the output ``a = f(z)``, ``dz`` the one with
respect to the input ``z``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.lax import erfc

from fnnet import activations as f
from fnnet.backprop.rule import Table, bare_function
from fnnet.binding import unbind
from fnnet.checks import in_dtype
from fnnet.types import ActivationFunction, Array, Scalar


class ActivationRule(NamedTuple):
    """``forward(z, **options) -> (a, residuals)`` and ``backward(residuals, da, **options) -> dz``."""

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., Array]


def activation_rule(function: ActivationFunction) -> tuple[ActivationRule, dict[str, Any]]:
    """Return the rule of an activation function and the options bound to it."""
    return ACTIVATION_RULES.look_up(function), unbind(function)[1]


def side(z: Array, on: Array) -> Array:
    """Return 1 where ``on`` and 0 elsewhere, as int8, and −1 where ``z`` is NaN and on no side of a kink."""
    return jnp.where(jnp.isnan(z), -1, on.astype(jnp.int8))


def chosen(side: Array, on: Array, off: Array | float) -> Array:
    """Return ``on`` or ``off`` by the side of the kink; the derivative at NaN is NaN."""
    return jnp.where(side == 1, on, jnp.where(side == 0, off, jnp.nan))


def identity_forward(z: Array) -> tuple[Array, tuple[()]]:
    return f.identity(z), ()


def identity_backward(residuals: tuple[()], da: Array) -> Array:
    """a = z  ⇒  dz = da."""
    return da


def sigmoid_forward(z: Array) -> tuple[Array, Array]:
    a = f.sigmoid(z)
    return a, a


def sigmoid_backward(a: Array, da: Array) -> Array:
    """a = σ(z)  ⇒  σ' = a (1 − a),  dz = da ⊙ a (1 − a)."""
    return da * (a * (1 - a))


def tanh_forward(z: Array) -> tuple[Array, Array]:
    a = f.tanh(z)
    return a, a


def tanh_backward(a: Array, da: Array) -> Array:
    """a = tanh(z)  ⇒  tanh' = 1 − a²,  dz = da ⊙ (1 − a²)."""
    return da * (1 - a * a)


def relu_forward(z: Array) -> tuple[Array, Array]:
    return f.relu(z), side(z, z > 0)


def relu_backward(side: Array, da: Array) -> Array:
    """a = max(z, 0)  ⇒  dz = da ⊙ [z > 0]."""
    return chosen(side, da, 0)


def leaky_relu_forward(z: Array, *, slope: Scalar = 0.01) -> tuple[Array, Array]:
    return f.leaky_relu(z, slope=slope), side(z, z > 0)


def leaky_relu_backward(side: Array, da: Array, *, slope: Scalar = 0.01) -> Array:
    """a = z or slope z  ⇒  dz = da or slope da."""
    return chosen(side, da, in_dtype(slope, da.dtype) * da)


def elu_forward(z: Array, *, alpha: Scalar = 1.0) -> tuple[Array, Array]:
    return f.elu(z, alpha=alpha), z


def elu_backward(z: Array, da: Array, *, alpha: Scalar = 1.0) -> Array:
    """a = α (exp(z) − 1) for z ≤ 0  ⇒  dz = da ⊙ α exp(z); else da."""
    return da * jnp.where(z > 0, 1, in_dtype(alpha, z.dtype) * jnp.exp(jnp.minimum(z, 0)))


def selu_forward(z: Array) -> tuple[Array, Array]:
    return f.selu(z), z


def selu_backward(z: Array, da: Array) -> Array:
    """a = λ elu(z, α)  ⇒  dz = λ elu'(z, α) ⊙ da."""
    return f.SELU_SCALE * elu_backward(z, da, alpha=f.SELU_ALPHA)


def celu_forward(z: Array, *, alpha: Scalar = 1.0) -> tuple[Array, Array]:
    return f.celu(z, alpha=alpha), z


def celu_backward(z: Array, da: Array, *, alpha: Scalar = 1.0) -> Array:
    """a = α (exp(z / α) − 1) for z ≤ 0  ⇒  dz = da ⊙ exp(z / α); else da."""
    return da * jnp.exp(jnp.minimum(z, 0) / in_dtype(alpha, z.dtype))


def softplus_forward(z: Array) -> tuple[Array, Array]:
    return f.softplus(z), z


def softplus_backward(z: Array, da: Array) -> Array:
    """a = log(1 + exp(z))  ⇒  dz = da ⊙ σ(z)."""
    return da * f.sigmoid(z)


def log_sigmoid_forward(z: Array) -> tuple[Array, Array]:
    return f.log_sigmoid(z), z


def log_sigmoid_backward(z: Array, da: Array) -> Array:
    """a = log σ(z)  ⇒  dz = da ⊙ (1 − σ(z)) = da ⊙ σ(−z)."""
    return da * f.sigmoid(-z)


def softsign_forward(z: Array) -> tuple[Array, Array]:
    return f.softsign(z), z


def softsign_backward(z: Array, da: Array) -> Array:
    """a = z / (1 + |z|)  ⇒  dz = da / (1 + |z|)²."""
    return da / jnp.square(1 + jnp.abs(z))


def silu_forward(z: Array) -> tuple[Array, Array]:
    return f.silu(z), z


def silu_backward(z: Array, da: Array) -> Array:
    """a = z g with g = σ(z)  ⇒  dz = da ⊙ (g + z g (1 − g))."""
    gate = f.sigmoid(z)
    return da * (gate + f.finite(z) * (gate * (1 - gate)))


def gelu_forward(z: Array, *, approximate: bool = False) -> tuple[Array, Array]:
    return f.gelu(z, approximate=approximate), z


def gelu_backward(z: Array, da: Array, *, approximate: bool = False) -> Array:
    """a = z Φ(z)  ⇒  dz = da ⊙ (Φ(z) + z φ(z)) with φ(z) = exp(−z²/2) / √(2π).

    The tanh form a = z g with g = σ(u)  ⇒  dz = da ⊙ (g + z g (1 − g) u') with u' = 2 √(2/π) (1 + 3 · 0.044715 z²).
    """
    if approximate:
        z = jnp.clip(z, -f.GATE_LIMIT, f.GATE_LIMIT)  # beyond these limits the gate is constant
        gate, du = f.sigmoid(f.gelu_gate(z)), 2 * f.SQRT_2_OVER_PI * (1 + 3 * 0.044715 * z**2)
        return da * (gate + z * (gate * (1 - gate)) * du)
    density = jnp.exp(-jnp.square(z * f.SQRT_HALF)) * (f.SQRT_2_OVER_PI / 2)
    return da * (0.5 * erfc(-z * f.SQRT_HALF) + f.finite(z) * density)


def mish_forward(z: Array) -> tuple[Array, Array]:
    return f.mish(z), z


def mish_backward(z: Array, da: Array) -> Array:
    """a = z g with g = tanh(s), s = log(1 + exp(z)), s' = σ(z)  ⇒  dz = da ⊙ (g + z (1 − g²) σ(z))."""
    g = f.tanh(f.softplus(z))
    return da * (g + f.finite(z) * ((1 - g * g) * f.sigmoid(z)))


def hard_sigmoid_forward(z: Array) -> tuple[Array, Array]:
    return f.hard_sigmoid(z), side(z, (z > -3) & (z < 3))


def hard_sigmoid_backward(side: Array, da: Array) -> Array:
    """a = z / 6 + ½ for −3 < z < 3  ⇒  dz = da / 6; else 0."""
    return chosen(side, da / 6, 0)


def hard_tanh_forward(z: Array) -> tuple[Array, Array]:
    return f.hard_tanh(z), side(z, (z > -1) & (z < 1))


def hard_tanh_backward(side: Array, da: Array) -> Array:
    """a = z for −1 < z < 1  ⇒  dz = da; else 0."""
    return chosen(side, da, 0)


def hard_silu_forward(z: Array) -> tuple[Array, Array]:
    return f.hard_silu(z), z


def hard_silu_backward(z: Array, da: Array) -> Array:
    """a = z (z + 3) / 6 for −3 < z < 3  ⇒  dz = da ⊙ (2 z + 3) / 6; 0 below, da above."""
    return jnp.where(z <= -3, 0, jnp.where(z >= 3, da, da * (2 * jnp.clip(z, -3, 3) + 3) / 6))


def glu_forward(z: Array, *, axis: int = -1) -> tuple[Array, Array]:
    return f.glu(z, axis=axis), z


def glu_backward(z: Array, da: Array, *, axis: int = -1) -> Array:
    """a = u σ(v)  ⇒  du = da ⊙ σ(v),  dv = da ⊙ u σ(v) σ(−v)."""
    u, v = f.glu_halves(z, axis)
    gate = f.sigmoid(v)
    slope = jnp.where(jnp.isinf(u) & jnp.isfinite(v), u, u * gate * f.sigmoid(-v))
    return jnp.concatenate([da * gate, da * slope], axis)


def maxout_forward(z: Array, *, pieces: int = 2, axis: int = -1) -> tuple[Array, Array]:
    groups = f.maxout_groups(z, pieces, axis)
    return f.maxout(z, pieces=pieces, axis=axis), side(groups, f.first_largest(groups))


def maxout_backward(side: Array, da: Array, *, pieces: int = 2, axis: int = -1) -> Array:
    """a_i = z_j for the j that is chosen in its group  ⇒  dz_j = da_i there, 0 elsewhere."""
    groups = chosen(side, jnp.moveaxis(da, axis, -1)[..., None], 0)
    joined = groups.reshape(*groups.shape[:-2], groups.shape[-2] * groups.shape[-1])
    return jnp.moveaxis(joined, -1, axis)


def softmax_forward(z: Array, *, axis: int = -1) -> tuple[Array, Array]:
    a = f.softmax(z, axis=axis)
    return a, a


def softmax_backward(a: Array, da: Array, *, axis: int = -1) -> Array:
    """∂a_i/∂z_j = a_i ([i = j] − a_j)  ⇒  dz_j = a_j (da_j − Σ_i da_i a_i)."""
    return a * (da - (da * a).sum(axis, keepdims=True))


def log_softmax_forward(z: Array, *, axis: int = -1) -> tuple[Array, Array]:
    return f.log_softmax(z, axis=axis), f.softmax(z, axis=axis)


def log_softmax_backward(p: Array, da: Array, *, axis: int = -1) -> Array:
    """∂a_i/∂z_j = [i = j] − p_j with p = softmax(z)  ⇒  dz_j = da_j − p_j Σ_i da_i."""
    return da - p * da.sum(axis, keepdims=True)


ACTIVATION_RULES: Table[ActivationRule] = Table(
    "activation", "ACTIVATION_RULES", "fnnet.backprop.ActivationRule(forward, backward)", bare_function
)
ACTIVATION_RULES |= {
    f.identity: ActivationRule(identity_forward, identity_backward),
    f.sigmoid: ActivationRule(sigmoid_forward, sigmoid_backward),
    f.tanh: ActivationRule(tanh_forward, tanh_backward),
    f.relu: ActivationRule(relu_forward, relu_backward),
    f.leaky_relu: ActivationRule(leaky_relu_forward, leaky_relu_backward),
    f.elu: ActivationRule(elu_forward, elu_backward),
    f.selu: ActivationRule(selu_forward, selu_backward),
    f.celu: ActivationRule(celu_forward, celu_backward),
    f.softplus: ActivationRule(softplus_forward, softplus_backward),
    f.log_sigmoid: ActivationRule(log_sigmoid_forward, log_sigmoid_backward),
    f.softsign: ActivationRule(softsign_forward, softsign_backward),
    f.silu: ActivationRule(silu_forward, silu_backward),
    f.gelu: ActivationRule(gelu_forward, gelu_backward),
    f.mish: ActivationRule(mish_forward, mish_backward),
    f.hard_sigmoid: ActivationRule(hard_sigmoid_forward, hard_sigmoid_backward),
    f.hard_tanh: ActivationRule(hard_tanh_forward, hard_tanh_backward),
    f.hard_silu: ActivationRule(hard_silu_forward, hard_silu_backward),
    f.glu: ActivationRule(glu_forward, glu_backward),
    f.maxout: ActivationRule(maxout_forward, maxout_backward),
    f.softmax: ActivationRule(softmax_forward, softmax_backward),
    f.log_softmax: ActivationRule(log_softmax_forward, log_softmax_backward),
}
