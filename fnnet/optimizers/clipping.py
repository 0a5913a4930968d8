"""Transforms that bound the gradients. They stand before the algorithm in a chain."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.groups import ScaleState
from fnnet.optimizers.hyperparameters import check_not_negative, in_dtype, value_at
from fnnet.optimizers.leaves import chosen, global_norm, map_leaves, moment_dtype, norm, params_given, zero_step
from fnnet.paths import is_weight, named_leaves
from fnnet.types import Array, Hyperparameter, Params, Scalar


def clip_by_value(limit: Hyperparameter) -> Optimizer:
    """``g ← min(max(g, −c), c)``, entry by entry. Changes the direction."""
    check_not_negative("optimizers.clip_by_value", limit=limit)

    def clip(grads: Params, limit: Scalar) -> Params:
        return jax.tree.map(lambda g: jnp.clip(g, -in_dtype(limit, g.dtype), in_dtype(limit, g.dtype)), grads)

    return clipping(limit, clip)


def clip_by_global_norm(limit: Hyperparameter) -> Optimizer:
    """``g ← g · min(1, c / ‖g‖)``, with the norm of all gradients together (Pascanu et al. 2013, algorithm 1).

    Keeps the direction. A NaN or an infinite entry makes all of them NaN: see ``skip_non_finite``.
    """
    check_not_negative("optimizers.clip_by_global_norm", limit=limit)

    def clip(grads: Params, limit: Scalar) -> Params:
        factor = shrinking(limit, global_norm(grads))
        return jax.tree.map(lambda g: scaled(g, factor), grads)

    return clipping(limit, clip)


def clip_by_layer_norm(limit: Hyperparameter) -> Optimizer:
    """``g ← g · min(1, c / ‖g‖)`` for every layer, with the norm of its gradients together.

    A layer is the first part of a parameter's name: ``"0.w"`` and ``"0.b"`` are of layer 0.
    """
    check_not_negative("optimizers.clip_by_layer_norm", limit=limit)

    def clip(grads: Params, limit: Scalar) -> Params:
        layers: dict[str, list[Array]] = {}
        for name, g in named_leaves(grads):
            layers.setdefault(name.split(".")[0], []).append(g)
        factors = {layer: shrinking(limit, global_norm(leaves)) for layer, leaves in layers.items()}
        leaves = [scaled(g, factors[name.split(".")[0]]) for name, g in named_leaves(grads)]
        return jax.tree.unflatten(jax.tree.structure(grads), leaves)

    return clipping(limit, clip)


def clipping(limit: Hyperparameter, clip: Callable[[Params, Scalar], Params]) -> Optimizer:
    def update(grads: Params, state: ScaleState, params: Params | None = None) -> tuple[Params, ScaleState]:
        return clip(grads, value_at(limit, state.step)), ScaleState(state.step + 1)

    return Optimizer(lambda params: ScaleState(zero_step()), update)


def adaptive_clip(
    limit: Hyperparameter = 1e-2, epsilon: Hyperparameter = 1e-3, *, where: Callable[[str], bool] = is_weight
) -> Optimizer:
    """Gradients bounded by the size of their weights, unit by unit (Brock et al. 2021, eq. 3).

    ``g ← g · min(1, c max(‖θ‖, ε) / ‖g‖)`` for every unit: the entries of the same index on the last axis, as the
    weights into a neuron are; an entry alone where there is one axis. ``where`` chooses by name what is clipped, by
    default the weights (Brock et al. leave out the last layer).
    """
    place = "optimizers.adaptive_clip"
    check_not_negative(place, limit=limit, epsilon=epsilon)

    def init(params: Params) -> ScaleState:
        chosen(place, where, params)
        return ScaleState(zero_step())

    def update(grads: Params, state: ScaleState, params: Params | None = None) -> tuple[Params, ScaleState]:
        c, smallest = value_at(limit, state.step), value_at(epsilon, state.step)

        def leaf(g: Array, p: Array, clipped: bool) -> tuple[Array]:
            if not clipped:
                return (g,)
            length, of_weights = unit_norms(g), unit_norms(p)
            bound = in_dtype(c, length.dtype) * jnp.maximum(of_weights, in_dtype(smallest, length.dtype))
            return (scaled(g, shrinking(bound, length)),)

        params = params_given(place, params)
        (updates,) = map_leaves(place, leaf, grads, given=(params, chosen(place, where, params)))
        return updates, ScaleState(state.step + 1)

    return Optimizer(init, update)


def unit_norms(x: Array) -> Array:
    """The norms over all axes but the last, kept."""
    if x.ndim < 2:
        return jnp.abs(x.astype(moment_dtype(x)))
    norms = jax.vmap(norm, in_axes=-1)(x.reshape(-1, x.shape[-1]))
    return norms.reshape((1,) * (x.ndim - 1) + (-1,))


def shrinking(limit: Scalar, length: Array) -> Array:
    """``min(1, limit / length)``: 1 at a length of 0, NaN at one of NaN."""
    limit = jnp.asarray(in_dtype(limit, length.dtype)).astype(length.dtype)
    return jnp.where(length <= limit, 1, limit / jnp.where(length == 0, 1, length))


def scaled(g: Array, factor: Array) -> Array:
    """The product in the dtype of ``factor``, the wider one, rounded to that of ``g``."""
    return (g.astype(factor.dtype) * factor).astype(g.dtype)
