"""Transforms that bound the gradients. Put them before the algorithm in a chain."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fnnet.norms import global_norm, norm
from fnnet.optimizers.base import Optimizer, StepState, zero_step
from fnnet.optimizers.groups import for_chosen
from fnnet.optimizers.hyperparameters import check_not_negative, in_dtype, value_at
from fnnet.optimizers.leaves import multiplied, wide
from fnnet.paths import Where, map_named, named_leaves
from fnnet.types import Array, Hyperparameter, Params, Scalar

LARGE = 2.0**64


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

    return clipping(limit, lambda grads, limit: bounded(grads, limit, global_norm))


def clip_by_layer_norm(limit: Hyperparameter) -> Optimizer:
    """Return the transform ``g ← g · min(1, c / ‖g‖)``, with the norm of all gradients of a layer and ``c = limit``.

    The layer of a parameter is its name up to the first dot: ``"0.w"`` and ``"0.b"`` belong to layer 0.
    """
    check_not_negative("optimizers.clip_by_layer_norm", limit=limit)

    def clip(grads: Params, limit: Scalar) -> Params:
        layers: dict[str, list[Array]] = {}
        for name, g in named_leaves(grads):
            layers.setdefault(name.split(".")[0], []).append(g)
        clipped = {layer: iter(bounded(leaves, limit, global_norm)) for layer, leaves in layers.items()}
        return map_named(lambda name, g: next(clipped[name.split(".")[0]]), grads)

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
        weight_length = norm(p, neurons)
        c, smallest = (in_dtype(value_at(number, step), weight_length.dtype) for number in (limit, epsilon))
        return bounded(g, c * jnp.maximum(weight_length, smallest), lambda g: norm(g, neurons))

    return for_chosen(caller, where, clip, "clip")


def clipping(limit: Hyperparameter, clip: Callable[[Params, Scalar], Params]) -> Optimizer:
    def update(grads: Params, state: StepState, params: Params | None = None) -> tuple[Params, StepState]:
        return clip(grads, value_at(limit, state.step)), StepState(state.step + 1)

    return Optimizer(lambda params: StepState(zero_step()), update, "clip")


def bounded(grads: Params, limit: Scalar, length_of: Callable[[Params], Array]) -> Params:
    """Return ``g · min(1, limit / ‖g‖)`` with the norm ``length_of(g)``, and NaN where an entry of it is not finite.

    Entries above 2⁶⁴ are divided by 2⁶⁴ first: otherwise their norm may be infinite, and the factor so small that it
    is rounded to 0.
    """
    small = wide(grads)
    largest = [jnp.abs(g).max(initial=0).astype(jnp.float32) for g in jax.tree.leaves(small)]
    shrink = jnp.where(jnp.stack([*largest, jnp.zeros((), jnp.float32)]).max() > LARGE, 1 / LARGE, 1)
    small = jax.tree.map(lambda g: g * shrink.astype(g.dtype), small)
    length = length_of(small)
    limit = jnp.asarray(in_dtype(limit, length.dtype)).astype(length.dtype)
    factor = jnp.where(length < jnp.inf, limit / jnp.where(length == 0, 1, length), jnp.nan)
    outside = ~(length <= limit * shrink.astype(length.dtype))
    return jax.tree.map(lambda g, s: jnp.where(outside, multiplied(s, factor).astype(g.dtype), g), grads, small)
