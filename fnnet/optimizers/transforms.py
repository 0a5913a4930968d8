"""Transforms of gradients and updates. Put them in a chain before or after an algorithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet.checks import at_least_float32
from fnnet.optimizers.base import Optimizer, StepState, zero_step
from fnnet.optimizers.groups import for_chosen
from fnnet.optimizers.hyperparameters import check_not_negative, in_dtype, value_at
from fnnet.optimizers.leaves import chosen, flattened, multiplied
from fnnet.paths import Where
from fnnet.types import Array, Hyperparameter, Params


def scale(factor: Hyperparameter) -> Optimizer:
    """Return the transform ``u ← c u`` with ``c = factor``."""
    check_not_negative("optimizers.scale", factor=factor)

    def update(grads: Params, state: StepState, params: Params | None = None) -> tuple[Params, StepState]:
        c = value_at(factor, state.step)
        return jax.tree.map(lambda u: multiplied(u, c), grads), StepState(state.step + 1)

    return Optimizer(lambda params: StepState(zero_step()), update)


def centralize(where: Where = None) -> Optimizer:
    """Return the transform ``g ← g − mean(g)``, with the mean over the weights into each neuron.

    The mean is taken over all axes but the last. Put it before an algorithm. ``where`` chooses by name the parameters:
    by default those of at least two axes. Gradients with fewer stay as they are.

    Source: Yong et al. 2020, eq. 1.
    """

    def init(params: Params) -> tuple[()]:
        chosen("optimizers.centralize", where, params)
        return ()

    def update(grads: Params, state: tuple[()], params: Params | None = None) -> tuple[Params, tuple[()]]:
        def leaf(g: Array, is_chosen: bool) -> Array:
            if not is_chosen or g.ndim < 2:
                return g
            wide = g.astype(at_least_float32(g))
            return (wide - wide.mean(tuple(range(g.ndim - 1)), keepdims=True)).astype(g.dtype)

        return jax.tree.map(leaf, grads, chosen("optimizers.centralize", where, grads)), state

    return Optimizer(init, update)


class NoiseState(NamedTuple):
    step: Array
    key: Array


def add_noise(key: Array, variance: Hyperparameter = 0.01, power: Hyperparameter = 0.55) -> Optimizer:
    """Return the transform ``g ← g + N(0, σ²)`` with ``σ² = variance / (1 + t)^power``, where ``t`` counts from 0.

    Put it before an algorithm. The random numbers of update ``t`` depend on ``key`` and ``t``.

    Source: Neelakantan et al. 2015, eq. 1.
    """
    check_not_negative("optimizers.add_noise", variance=variance, power=power)

    def update(grads: Params, state: NoiseState, params: Params | None = None) -> tuple[Params, NoiseState]:
        leaves, structure = flattened(grads)
        keys = jax.random.split(jax.random.fold_in(state.key, state.step), max(len(leaves), 1))

        def noisy(g: Array, key: Array) -> Array:
            wide = at_least_float32(g)
            v, exponent = (in_dtype(value_at(number, state.step), wide) for number in (variance, power))
            deviation = jnp.sqrt(v / (1 + state.step.astype(wide)) ** exponent)
            return (g.astype(wide) + deviation * jax.random.normal(key, g.shape, wide)).astype(g.dtype)

        updates = structure.unflatten([noisy(g, keys[i]) for i, g in enumerate(leaves)])
        return updates, NoiseState(state.step + 1, state.key)

    return Optimizer(lambda params: NoiseState(zero_step(), jnp.copy(key)), update)


def project(projection: Callable[[Array], Array], where: Where = None) -> Optimizer:
    """Return the transform of projected gradient descent, ``u ← P(θ + u) − θ`` with ``P = projection``.

    The updated parameters ``P(θ + u)`` lie in the set on which ``P`` projects. Put it last in a chain:
    ``chain(sgd(0.1), project(projections.non_negative))``. ``where`` chooses by name the parameters: by default those
    of at least two axes. Adding the update to ``θ`` rounds once more, so the constraint holds up to one rounding.

    Source: Goldstein 1964; Levitin and Polyak 1966.
    """

    def transform(step: Array, u: Array, p: Array) -> Array:
        return jnp.asarray(projection(p + u.astype(p.dtype)) - p).astype(u.dtype)

    return for_chosen("optimizers.project", where, transform)
