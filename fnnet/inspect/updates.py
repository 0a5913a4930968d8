"""How far the parameters move."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.optimizers.leaves import norm
from fnnet.paths import named_leaves
from fnnet.types import Array, Params


def update_ratios(params: Params, grads: Params, updates: Params) -> dict[str, Array]:
    """``{"update_ratio NAME": ‖u‖ / ‖θ‖}`` for every parameter: how much of itself an update changes.

    For ``measure=`` of ``train_step``, ``train_epoch`` and ``fit``. Of weights that learn it is about 1e-3; far less,
    and the layer stands still, far more, and it forgets. Infinite for a parameter of zeros that moves, 0 for one that
    does not.
    """
    lengths = {name: norm(u) for name, u in named_leaves(updates)}
    return {f"update_ratio {name}": ratio(lengths[name], norm(p)) for name, p in named_leaves(params)}


def ratio(above: Array, below: Array) -> Array:
    return jnp.where(above == 0, 0, above.astype(below.dtype) / below)


def gradient_norms(params: Params, grads: Params, updates: Params) -> dict[str, Array]:
    """``{"gradient_norm NAME": ‖g‖₂}`` for every parameter. For ``measure=``, as ``update_ratios`` is."""
    return {f"gradient_norm {name}": norm(g) for name, g in named_leaves(grads)}


def update_norms(params: Params, grads: Params, updates: Params) -> dict[str, Array]:
    """``{"update_norm NAME": ‖u‖₂}`` for every parameter. For ``measure=``, as ``update_ratios`` is."""
    return {f"update_norm {name}": norm(u) for name, u in named_leaves(updates)}
