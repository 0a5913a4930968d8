"""Transforms that bound the gradients. Put them before the algorithm in a chain."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnnet.norms import global_norm, norm
from fnnet.optimizers.base import Optimizer, StepState, zero_step
from fnnet.optimizers.groups import for_chosen
from fnnet.optimizers.hyperparameters import check_not_negative, in_dtype, value_at
from fnnet.optimizers.leaves import multiplied
from fnnet.paths import Where, map_named, named_leaves
from fnnet.types import Array, Hyperparameter, Params, Scalar


def clip_by_value(limit: Hyperparameter) -> Optimizer:
    """Return the transform ``g ← min(max(g, −c), c)`` of every entry, with ``c = limit``. It changes the direction."""
    check_not_negative("optimizers.clip_by_value", limit=limit)

    def clip(grads: Params, limit: Scalar) -> Params:
        return jax.tree.map(lambda g: jnp.clip(g, -in_dtype(limit, g.dtype), in_dtype(limit, g.dtype)), grads)

    return clipping(limit, clip)


def clip_by_global_norm(limit: Hyperparameter) -> Optimizer:
    """Return the transform ``g ← g · min(1, c / ‖g‖)``, with the norm of all gradients together and ``c = limit``.

    It keeps the direction. One entry that is NaN or infinite makes all entries NaN: see ``skip_non_finite``. So it is
    for the entries of a layer, or of a neuron, in the two clips below.

    Source: Pascanu et al. 2013, algorithm 1.
    """
    check_not_negative("optimizers.clip_by_global_norm", limit=limit)

    def clip(grads: Params, limit: Scalar) -> Params:
        factor = clip_factor(limit, global_norm(grads))
        return jax.tree.map(lambda g: multiplied(g, factor), grads)

    return clipping(limit, clip)


def clip_by_layer_norm(limit: Hyperparameter) -> Optimizer:
    """Return the transform ``g ← g · min(1, c / ‖g‖)``, with the norm of all gradients of a layer and ``c = limit``.

    The layer of a parameter is its name up to the first dot: ``"0.w"`` and ``"0.b"`` belong to layer 0.
    """
    check_not_negative("optimizers.clip_by_layer_norm", limit=limit)

    def clip(grads: Params, limit: Scalar) -> Params:
        layers: dict[str, list[Array]] = {}
        for name, g in named_leaves(grads):
            layers.setdefault(name.split(".")[0], []).append(g)
        factors = {layer: clip_factor(limit, global_norm(leaves)) for layer, leaves in layers.items()}
        return map_named(lambda name, g: multiplied(g, factors[name.split(".")[0]]), grads)

    return clipping(limit, clip)


def adaptive_clip(limit: Hyperparameter = 1e-2, epsilon: Hyperparameter = 1e-3, *, where: Where = None) -> Optimizer:
    """Return the transform that bounds gradients by the size of their weights, neuron by neuron.

    ``g ← g · min(1, c max(‖θ‖, ε) / ‖g‖)``  with ``c = limit`` and the norms of the weights into each neuron, which are
    the entries of the same index on the last axis. A parameter with one axis is bounded entry by entry. ``where``
    chooses by name the parameters that are clipped: by default the weights. The paper excludes the last layer.

    Source: Brock et al. 2021, eq. 3.
    """
    caller = "optimizers.adaptive_clip"
    check_not_negative(caller, limit=limit, epsilon=epsilon)

    def clip(step: Array, g: Array, p: Array) -> Array:
        neurons = tuple(range(g.ndim - 1))  # () gives the norm of every entry
        length, weight_length = norm(g, neurons), norm(p, neurons)
        c, smallest = (in_dtype(value_at(number, step), length.dtype) for number in (limit, epsilon))
        return multiplied(g, clip_factor(c * jnp.maximum(weight_length, smallest), length))

    return for_chosen(caller, where, clip, "clip")


def clipping(limit: Hyperparameter, clip: Callable[[Params, Scalar], Params]) -> Optimizer:
    def update(grads: Params, state: StepState, params: Params | None = None) -> tuple[Params, StepState]:
        return clip(grads, value_at(limit, state.step)), StepState(state.step + 1)

    return Optimizer(lambda params: StepState(zero_step()), update, "clip")


def clip_factor(limit: Scalar, length: Array) -> Array:
    """Return ``min(1, limit / length)``: 1 where the length is 0, and NaN where it is NaN or infinite."""
    limit = jnp.asarray(in_dtype(limit, length.dtype)).astype(length.dtype)
    factor = jnp.where(length <= limit, 1, limit / jnp.where(length == 0, 1, length))
    return jnp.where(length < jnp.inf, factor, jnp.nan)
