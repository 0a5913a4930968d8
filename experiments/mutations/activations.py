"""Faults of the activations' derivatives. The right ones are in ``fnnet.backprop.activations``."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.scipy.stats import norm

import fnnet
from experiments.mutations.mutant import EXAMPLES, Broken, Fault, Mutant, Subject, normal
from fnnet import activations as f
from fnnet.backprop import ACTIVATION_RULES
from fnnet.binding import name_of, unbind

AXIS_OF_EXAMPLES = fnnet.bind(f.softmax, axis=0)
# A softmax over the examples does not change when one number is added to all of them: the gradient of b is 0.
OVER_EXAMPLES = Subject(
    "Dense, softmax over the examples",
    fnnet.sequential(fnnet.Dense(16), AXIS_OF_EXAMPLES),
    normal(EXAMPLES, 16),
)


def activation(name: str, function: Any, fault: Fault, subject: Subject | None = None) -> Mutant:
    """Return a fault of a function, checked on inputs that reach the flat parts of the hard functions."""
    z = normal(EXAMPLES, 16, scale=2)
    alone = Subject(name_of(function), fnnet.Activation(function), z)
    bare, _ = unbind(function)
    return Mutant(f"{name_of(bare)}: {name}", subject or alone, ACTIVATION_RULES, bare, fault)


def backward(broken: Broken) -> Fault:
    """Return the fault that puts ``broken(residuals, da, **options)`` in place of the backward pass."""
    return lambda rule: rule._replace(backward=broken)


def forgotten(residuals: Any, da: Any, **options: Any) -> Any:
    """Return ``da``, as if the derivative were 1."""
    return da


def options_ignored(rule: Any) -> Any:
    """Return the rule with the default for every option of its backward pass."""
    return rule._replace(backward=lambda residuals, da, **options: rule.backward(residuals, da))


def remembering_input(broken: Broken) -> Fault:
    """Return the fault ``dz = broken(z, da)`` of a function whose right rule keeps less than ``z``."""

    def fault(rule: Any) -> Any:
        return rule._replace(forward=lambda z: (rule.forward(z)[0], z), backward=broken)

    return fault


def slope_at(point: Broken) -> Fault:
    """Return the fault that takes the derivative at ``point(a)`` of the output ``a`` instead of the input."""

    def fault(rule: Any) -> Any:
        return rule._replace(backward=lambda a, da: rule.backward(point(a), da))

    return fault


def approximate(rule: Any) -> Any:
    """Return the rule of ``gelu`` with the derivative of its tanh form."""
    return rule._replace(backward=lambda z, da: rule.backward(z, da, approximate=True))


def scale_forgotten(rule: Any) -> Any:
    return rule._replace(backward=lambda z, da: rule.backward(z, da) / f.SELU_SCALE)


def hard_silu_without_2(z: Any, da: Any) -> Any:
    """Return the derivative with ``(z + 3) / 6`` for ``(2 z + 3) / 6``."""
    return da * jnp.where(z <= -3, 0, jnp.where(z >= 3, 1, (z + 3) / 6))


def glu_without_gate(z: Any, da: Any) -> Any:
    """Return the derivative with ``dv = 0`` for ``dv = da ⊙ u σ(v) σ(−v)``."""
    du = da * f.sigmoid(f.glu_halves(z, -1)[1])
    return jnp.concatenate([du, jnp.zeros_like(du)], -1)


MUTANTS = (
    activation("derivative forgotten", f.sigmoid, backward(forgotten)),
    activation("derivative at the output", f.sigmoid, slope_at(f.sigmoid)),
    activation("1 - a forgotten", f.sigmoid, backward(lambda a, da: da * a)),
    activation("derivative forgotten", f.tanh, backward(forgotten)),
    activation("derivative at the output", f.tanh, slope_at(f.tanh)),
    activation("1 - a for 1 - a squared", f.tanh, backward(lambda a, da: da * (1 - a))),
    activation("derivative forgotten", f.relu, backward(forgotten)),
    activation("mask z > -0.2", f.relu, remembering_input(lambda z, da: jnp.where(z > -0.2, da, 0))),
    activation("mask reversed", f.relu, backward(lambda side, da: jnp.where(side == 1, 0, da))),
    activation("mask of da too", f.relu, backward(lambda side, da: jnp.where((side == 1) & (da >= 0), da, 0))),
    activation("slope forgotten", f.leaky_relu, backward(lambda side, da: jnp.where(side == 1, da, 0))),
    activation("slope ignored", fnnet.bind(f.leaky_relu, slope=0.2), options_ignored),
    activation("alpha ignored", fnnet.bind(f.elu, alpha=0.5), options_ignored),
    activation("a for a + alpha", f.elu, backward(lambda z, da: da * jnp.where(z <= 0, jnp.expm1(z), 1))),
    activation("scale forgotten", f.selu, scale_forgotten),
    activation("alpha ignored", fnnet.bind(f.celu, alpha=0.5), options_ignored),
    activation("denominator of the sigmoid forgotten", f.softplus, backward(lambda z, da: da * jnp.exp(z))),
    activation("sigma(z) for sigma(-z)", f.log_sigmoid, backward(lambda z, da: da * f.sigmoid(z))),
    activation("square forgotten", f.softsign, backward(lambda z, da: da / (1 + jnp.abs(z)))),
    activation("term of z forgotten", f.silu, backward(lambda z, da: da * f.sigmoid(z))),
    activation("term of z phi(z) forgotten", f.gelu, backward(lambda z, da: da * norm.cdf(z))),
    activation("derivative of the tanh form", f.gelu, approximate),
    activation("term of z forgotten", f.mish, backward(lambda z, da: da * jnp.tanh(f.softplus(z)))),
    activation("slope 0.2 for 1/6", f.hard_sigmoid, backward(lambda side, da: jnp.where(side == 1, 0.2 * da, 0))),
    activation("never flat", f.hard_tanh, backward(forgotten)),
    activation("2 of 2 z forgotten", f.hard_silu, backward(hard_silu_without_2)),
    activation("gradient of the gate forgotten", f.glu, backward(glu_without_gate)),
    activation("gradient to all pieces", f.maxout, backward(lambda side, da: jnp.repeat(da, 2, -1))),
    activation("diagonal only", f.softmax, backward(lambda a, da: da * a * (1 - a))),
    activation("sum without its weights", f.softmax, backward(lambda a, da: a * (da - da.sum(-1, keepdims=True)))),
    activation("sum along another axis", AXIS_OF_EXAMPLES, options_ignored),
    activation("sum along another axis, after a layer", AXIS_OF_EXAMPLES, options_ignored, OVER_EXAMPLES),
    activation("sum forgotten", f.log_softmax, backward(forgotten)),
    activation("1 / C for the probability", f.log_softmax, backward(lambda a, da: da - da.mean(-1, keepdims=True))),
)
