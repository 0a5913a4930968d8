"""LARS and LAMB: a rate for every tensor, from the ratio of the length of its weights to the length of its gradient."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp

from fnnet.norms import norm
from fnnet.optimizers.adam import AdamCoefficients, adam_like
from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.hyperparameters import check_decay_rate, check_not_negative
from fnnet.optimizers.leaves import chosen, leafwise
from fnnet.optimizers.momentum import MomentumState
from fnnet.paths import Where
from fnnet.types import Array, Hyperparameter, Scalar


def lars(
    learning_rate: Hyperparameter,
    momentum: Hyperparameter = 0.9,
    *,
    trust: Hyperparameter = 1e-3,
    weight_decay: Hyperparameter = 0.0,
    where: Where = None,
) -> Optimizer:
    """Return the optimizer of momentum with a rate for every tensor.

    ``λ = η ‖θ‖ / (‖g‖ + ω ‖θ‖)``,  ``v ← β v + α λ (g + ω θ)``,  ``θ ← θ − v``,
    with ``η = trust``, ``ω = weight_decay``, ``β = momentum`` and ``v`` starting at 0.

    ``where`` chooses by name the tensors that are scaled and that decay: by default the weights. For the others
    ``v ← β v + α g``. Where a norm is 0, ``λ = 1``. optax divides by the norm of ``g + ω θ``, which is the same without
    decay.

    Source: You, Gitman and Ginsburg 2017, algorithm 1.
    """
    caller = "optimizers.lars"
    check_not_negative(caller, learning_rate=learning_rate, trust=trust, weight_decay=weight_decay)
    check_decay_rate(caller, momentum=momentum)

    def leaf(h: tuple[Scalar, ...], g: Array, v: Array, p: Array, is_chosen: bool) -> tuple[Array, Array]:
        rate, beta, eta, decay = h
        if is_chosen:
            g = trust_ratio(eta, norm(p), norm(g) + decay * norm(p)) * (g + decay * p)
        v = beta * v + rate * g
        return -v, v

    return leafwise(
        caller,
        MomentumState,
        leaf,
        (learning_rate, momentum, trust, weight_decay),
        choose=partial(chosen, caller, where),
    )


def lamb(
    learning_rate: Hyperparameter = 1e-3,
    beta1: Hyperparameter = 0.9,
    beta2: Hyperparameter = 0.999,
    epsilon: Hyperparameter = 1e-6,
    *,
    weight_decay: Hyperparameter = 0.0,
    where: Where = None,
) -> Optimizer:
    """Return the optimizer of Adam with a rate for every tensor.

    With Adam's ``m̂`` and ``v̂`` and ``λ = weight_decay``:  ``u = m̂ / (√v̂ + ε) + λ θ``,  ``θ ← θ − α ‖θ‖ / ‖u‖ · u``.

    ``where`` chooses by name the tensors that are scaled and that decay: by default the weights. The others take Adam's
    steps. Where a norm is 0, the ratio is 1. optax scales and decays all tensors.

    Source: You et al. 2020, algorithm 2.
    """
    caller = "optimizers.lamb"

    def leaf(c: AdamCoefficients, g: Array, m: Array, v: Array, p: Array, is_chosen: bool) -> tuple[Array, ...]:
        m = c.beta1 * m + (1 - c.beta1) * g
        v = c.beta2 * v + (1 - c.beta2) * jnp.square(g)
        u = (m / c.weight1) / (jnp.sqrt(v / c.weight2) + c.epsilon)
        if is_chosen:
            u = u + c.weight_decay * p
            u = trust_ratio(1, norm(p), norm(u)) * u
        return -c.rate * u, m, v

    return adam_like(
        caller, leaf, learning_rate, beta1, beta2, epsilon, weight_decay, choose=partial(chosen, caller, where)
    )


def trust_ratio(coefficient: Scalar, above: Array, below: Array) -> Array:
    """Return ``coefficient · above / below``, or 1 where one of the norms is 0, and NaN where one is not finite."""
    unusable = (above == 0) | (below == 0)
    ratio = jnp.where(unusable, 1, coefficient * above / jnp.where(unusable, 1, below))
    return jnp.where((above < jnp.inf) & (below < jnp.inf), ratio, jnp.nan)
