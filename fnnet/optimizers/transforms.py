"""Transforms of gradients and updates, to be chained before or after an algorithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.groups import ScaleState
from fnnet.optimizers.hyperparameters import check_not_negative, in_dtype, value_at
from fnnet.optimizers.leaves import chosen, flattened, map_leaves, moment_dtype, params_given, zero_step
from fnnet.paths import is_weight
from fnnet.types import Array, Hyperparameter, Params


def decay_weights(strength: Hyperparameter, where: Callable[[str], bool] = is_weight) -> Optimizer:
    """``u ← u − λ θ``, after an algorithm: decoupled weight decay, independent of the learning rate.

    ``chain(momentum(0.1), decay_weights(1e-4))`` is SGDW (Loshchilov and Hutter 2019, algorithm 1); ``λ`` may be a
    schedule of its own. ``where`` chooses by name what decays, by default the weights.
    """
    place = "optimizers.decay_weights"
    check_not_negative(place, strength=strength)

    def init(params: Params) -> ScaleState:
        chosen(place, where, params)
        return ScaleState(zero_step())

    def update(grads: Params, state: ScaleState, params: Params | None = None) -> tuple[Params, ScaleState]:
        decay = value_at(strength, state.step)

        def leaf(u: Array, p: Array, decays: bool) -> tuple[Array]:
            wide = moment_dtype(u)
            return ((u.astype(wide) - in_dtype(decay, wide) * p.astype(wide)).astype(u.dtype) if decays else u,)

        params = params_given(place, params)
        (updates,) = map_leaves(place, leaf, grads, given=(params, chosen(place, where, params)))
        return updates, ScaleState(state.step + 1)

    return Optimizer(init, update)


def centralize(where: Callable[[str], bool] = is_weight) -> Optimizer:
    """``g ← g − mean(g)`` over the weights into each neuron, before an algorithm (Yong et al. 2020, eq. 1).

    The mean is over all axes but the last. ``where`` chooses by name, by default the weights; of those, gradients with
    one axis stay as they are.
    """

    def init(params: Params) -> tuple[()]:
        chosen("optimizers.centralize", where, params)
        return ()

    def update(grads: Params, state: tuple[()], params: Params | None = None) -> tuple[Params, tuple[()]]:
        def leaf(g: Array, centred: bool) -> Array:
            if not centred or g.ndim < 2:
                return g
            wide = g.astype(moment_dtype(g))
            return (wide - wide.mean(tuple(range(g.ndim - 1)), keepdims=True)).astype(g.dtype)

        return jax.tree.map(leaf, grads, chosen("optimizers.centralize", where, grads)), state

    return Optimizer(init, update)


class NoiseState(NamedTuple):
    step: Array
    key: Array


def add_noise(key: Array, variance: Hyperparameter = 0.01, decay: Hyperparameter = 0.55) -> Optimizer:
    """``g ← g + N(0, σ²)``,  ``σ² = variance / (1 + t)^decay``, ``t`` from 0, before an algorithm.

    The numbers of update ``t`` are drawn from ``key`` and ``t``. Source: Neelakantan et al. 2015, eq. 1.
    """
    check_not_negative("optimizers.add_noise", variance=variance, decay=decay)

    def update(grads: Params, state: NoiseState, params: Params | None = None) -> tuple[Params, NoiseState]:
        leaves, structure = flattened(grads)
        keys = jax.random.split(jax.random.fold_in(state.key, state.step), max(len(leaves), 1))

        def noisy(g: Array, key: Array) -> Array:
            wide = moment_dtype(g)
            v, power = in_dtype(value_at(variance, state.step), wide), in_dtype(value_at(decay, state.step), wide)
            deviation = jnp.sqrt(v / (1 + state.step.astype(wide)) ** power)
            return (g.astype(wide) + deviation * jax.random.normal(key, g.shape, wide)).astype(g.dtype)

        noise = structure.unflatten([noisy(g, keys[i]) for i, g in enumerate(leaves)])
        return noise, NoiseState(state.step + 1, state.key)

    return Optimizer(lambda params: NoiseState(zero_step(), jnp.copy(key)), update)


def project(projection: Callable[[Array], Array], where: Callable[[str], bool] = is_weight) -> Optimizer:
    """Projected gradient descent: ``u ← P(θ + u) − θ``, so that the updated ``θ`` is in the set that P projects on.

    Last in a chain: ``chain(sgd(0.1), project(projections.non_negative))``. ``where`` chooses the parameters by their
    names, by default the weights. Adding the update to ``θ`` rounds once more, so the constraint holds to one rounding.
    Source: Goldstein 1964; Levitin and Polyak 1966.
    """
    place = "optimizers.project"

    def init(params: Params) -> tuple[()]:
        chosen(place, where, params)
        return ()

    def update(grads: Params, state: tuple[()], params: Params | None = None) -> tuple[Params, tuple[()]]:
        def leaf(u: Array, p: Array, projected: bool) -> tuple[Array]:
            return (jnp.asarray(projection(p + u.astype(p.dtype)) - p).astype(u.dtype) if projected else u,)

        params = params_given(place, params)
        (updates,) = map_leaves(place, leaf, grads, given=(params, chosen(place, where, params)))
        return updates, state

    return Optimizer(init, update)
