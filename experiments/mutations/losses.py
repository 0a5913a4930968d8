"""Faults of the losses' gradients, each with a linear model. The right ones are in ``fnnet.backprop.losses``."""

from __future__ import annotations

import warnings
from typing import Any

import jax.numpy as jnp

import fnnet
from experiments.mutations.mutant import EXAMPLES, Broken, Draw, Fault, Mutant, Subject, formula, labels, normal
from fnnet import activations as f
from fnnet import losses
from fnnet.backprop import FUSED_GRADIENTS, LOSS_GRADIENTS
from fnnet.binding import bind, name_of, unbind
from fnnet.losses.targets import one_hot
from fnnet.types import Array

OUTPUTS = 4
LINEAR = fnnet.Dense(OUTPUTS, use_bias=False)
SOFTMAX, SIGMOID = fnnet.sequential(LINEAR, f.softmax), fnnet.sequential(LINEAR, f.sigmoid)
CLASS_WEIGHTS = (0.5, 1.0, 2.0, 4.0)

REAL, HALF_AS_WIDE, LABELS = normal(EXAMPLES, OUTPUTS), normal(EXAMPLES, OUTPUTS // 2), labels(OUTPUTS)


def yes_or_no(rng: Any) -> Any:
    return rng.integers(0, 2, (EXAMPLES, OUTPUTS)).astype(float)


def signs(rng: Any) -> Any:
    return 2 * yes_or_no(rng) - 1


def counts(rng: Any) -> Any:
    return rng.poisson(2.0, (EXAMPLES, OUTPUTS)).astype(float)


def distributions(rng: Any) -> Any:
    return rng.dirichlet([1.0] * OUTPUTS, EXAMPLES)


def loss(name: str, function: Any, target: Draw, fault: Fault, model: Any = LINEAR) -> Mutant:
    """Return a fault of a loss. Inputs of 3 standard deviations reach both sides of every kink."""
    with warnings.catch_warnings():  # a sigmoid before cross_entropy is meant: a softmax would be fused with it
        warnings.filterwarnings("ignore", "Cost: ")
        cost = fnnet.Cost(model, function)
    subject = Subject(name_of(function), cost, normal(EXAMPLES, 5, scale=3), target)
    bare, _ = unbind(function)
    return Mutant(f"{name_of(bare)}: {name}", subject, LOSS_GRADIENTS, bare, fault)


def fused(name: str, activation: Any, function: Any, target: Draw, model: Any, fault: Fault) -> Mutant:
    """Return a fault of the gradient of a loss and of the activation before it together."""
    before, after = name_of(activation), name_of(function)
    subject = Subject(f"{after} of {before}", fnnet.Cost(model, function), normal(EXAMPLES, 5), target)
    return Mutant(f"{before} and {after}: {name}", subject, FUSED_GRADIENTS, (activation, function), fault)


def times(factor: float) -> Fault:
    return lambda healthy: lambda p, y, **options: factor * healthy(p, y, **options)


def options_ignored(healthy: Any) -> Broken:
    """Return the gradient of the loss with the default for every option."""
    return lambda p, y, **options: healthy(p, y)


def of_next_label(healthy: Any) -> Broken:
    return lambda p, y: healthy(p, (y + 1) % OUTPUTS)


def hot(label: Array, like: Array) -> Array:
    """``y_c = [c = label]``."""
    return one_hot(label, OUTPUTS).astype(like.dtype)


def norm(x: Array) -> Array:
    return jnp.linalg.norm(x, axis=-1, keepdims=True)


def without_projection(p: Array, y: Array) -> Array:
    """``(u − v) / ‖ŷ‖`` for ``(u (u · v) − v) / ‖ŷ‖``."""
    return (p / norm(p) - y / norm(y)) / norm(p)


def log_variance_without_half(healthy: Any) -> Broken:
    return lambda p, y: healthy(p, y) * jnp.repeat(jnp.asarray([1, 2], p.dtype), OUTPUTS // 2)


def variance_forgotten(healthy: Any) -> Broken:
    """``∂ℓ/∂μ = μ − y`` for ``(μ − y) exp(−s)``."""
    return lambda p, y: healthy(p, y).at[:, : OUTPUTS // 2].set(p[:, : OUTPUTS // 2] - y)


def focal_of_constant_factor(p: Array, y: Array) -> Array:
    """Return the gradient as if ``(1 − p)^γ`` did not depend on the logits: ``∂ℓ/∂l_c = −y_c (1 − p_c)^γ``."""
    probability = f.softmax(p)
    d = -hot(y, p) * (1 - probability) ** 2
    return d - probability * d.sum(-1, keepdims=True)


MUTANTS = (
    loss("2 forgotten", losses.squared_error, REAL, times(1 / 2)),
    loss("1 / K forgotten", losses.squared_error, REAL, times(OUTPUTS)),
    loss("sign", losses.half_squared_error, REAL, times(-1)),
    loss("1/2 forgotten", losses.half_squared_error, REAL, times(2)),
    loss("sign not taken", losses.absolute_error, REAL, formula(lambda p, y: (p - y) / OUTPUTS)),
    loss("not clipped", losses.huber, REAL, formula(lambda p, y: (p - y) / OUTPUTS)),
    loss("delta ignored", bind(losses.huber, delta=2.0), REAL, options_ignored),
    loss("tanh forgotten", losses.log_cosh, REAL, formula(lambda p, y: (p - y) / OUTPUTS)),
    loss("projection forgotten", losses.cosine, REAL, formula(without_projection)),
    loss("length forgotten", losses.cosine, REAL, lambda healthy: lambda p, y: norm(p) * healthy(p, y)),
    loss("term of y = 0 forgotten", losses.binary_cross_entropy, yes_or_no, formula(lambda p, y: -y / p), SOFTMAX),
    loss(
        "denominator p for p (1 - p)",
        losses.binary_cross_entropy,
        yes_or_no,
        formula(lambda p, y: (p - y) / p),
        SOFTMAX,
    ),
    loss(
        "probabilities clipped to [0.01, 0.99]",
        losses.sigmoid_cross_entropy,
        yes_or_no,
        formula(lambda z, y: jnp.clip(f.sigmoid(z), 0.01, 0.99) - y),
    ),
    loss("sigmoid forgotten", losses.sigmoid_cross_entropy, yes_or_no, formula(lambda z, y: z - y)),
    loss("margins not looked at", losses.hinge, signs, formula(lambda p, y: -y)),
    loss("mask reversed", losses.hinge, signs, formula(lambda p, y: jnp.where(y * p >= 1, -y, 0))),
    loss("y forgotten", losses.hinge, signs, formula(lambda p, y: jnp.where(y * p >= 1, 0, -1))),
    loss("2 forgotten", losses.squared_hinge, signs, times(1 / 2)),
    loss("p for log p", losses.cross_entropy, LABELS, formula(lambda p, y: -hot(y, p) * p), SIGMOID),
    loss("p forgotten", losses.softmax_cross_entropy, LABELS, formula(lambda z, y: -hot(y, z))),
    loss("label off by one", losses.softmax_cross_entropy, LABELS, of_next_label),
    loss("smoothing ignored", bind(losses.softmax_cross_entropy, smoothing=0.1), LABELS, options_ignored),
    loss(
        "class weights ignored",
        bind(losses.softmax_cross_entropy, class_weights=CLASS_WEIGHTS),
        LABELS,
        options_ignored,
    ),
    loss("gamma forgotten", losses.focal, LABELS, lambda healthy: lambda z, y: healthy(z, y, gamma=0)),
    loss("gamma ignored", bind(losses.focal, gamma=1.5), LABELS, options_ignored),
    loss("factor taken as constant", losses.focal, LABELS, formula(focal_of_constant_factor)),
    loss("y forgotten", losses.kl_divergence, distributions, formula(lambda p, y: -1 / p), SOFTMAX),
    loss("p - y, as after a softmax", losses.kl_divergence, distributions, formula(lambda p, y: p - y), SOFTMAX),
    loss("exp forgotten", losses.poisson_negative_log_likelihood, counts, formula(lambda z, y: z - y)),
    loss("1/2 forgotten", losses.gaussian_negative_log_likelihood, HALF_AS_WIDE, log_variance_without_half),
    loss("variance forgotten", losses.gaussian_negative_log_likelihood, HALF_AS_WIDE, variance_forgotten),
    fused(
        "derivative of the sigmoid twice",
        f.sigmoid,
        losses.binary_cross_entropy,
        yes_or_no,
        SIGMOID,
        formula(lambda p, y: (p - y) * p * (1 - p)),
    ),
    fused(
        "gradient of the loss alone",
        f.softmax,
        losses.cross_entropy,
        LABELS,
        SOFTMAX,
        formula(lambda p, y: -hot(y, p) / p),
    ),
)
