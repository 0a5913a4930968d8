"""How long gradients and updates are, for every parameter."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.norms import norm
from fnnet.paths import named_leaves
from fnnet.types import Array, Params


def update_ratios(params: Params, grads: Params, updates: Params) -> dict[str, Array]:
    """Return ``{"update_ratio NAME": ‖u‖ / ‖θ‖}`` for every parameter: the relative size of its update.

    Pass it as ``measure=`` to ``train_step``, ``train_epoch`` or ``fit``. Weights that learn well have a ratio of about
    1e-3. With a far smaller ratio a layer hardly changes; with a far larger one it loses what it has learned. The ratio
    is infinite for a parameter of zeros that changes, and 0 for a parameter that does not change.
    """

    def ratio(u: Array, p: Array) -> Array:
        length, change = norm(p), norm(u)
        return jnp.where(change == 0, 0, change.astype(length.dtype) / length)

    pairs = zip(named_leaves(params), named_leaves(updates), strict=True)
    return {f"update_ratio {name}": ratio(u, p) for (name, p), (_, u) in pairs}


def gradient_norms(params: Params, grads: Params, updates: Params) -> dict[str, Array]:
    """Return ``{"gradient_norm NAME": ‖g‖₂}`` for every parameter. Pass it as ``measure=``, like ``update_ratios``."""
    return {f"gradient_norm {name}": norm(g) for name, g in named_leaves(grads)}


def update_norms(params: Params, grads: Params, updates: Params) -> dict[str, Array]:
    """Return ``{"update_norm NAME": ‖u‖₂}`` for every parameter. Pass it as ``measure=``, like ``update_ratios``."""
    return {f"update_norm {name}": norm(u) for name, u in named_leaves(updates)}
