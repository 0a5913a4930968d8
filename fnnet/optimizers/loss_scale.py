"""The scale of the gradients of float16, looked for while training."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers.base import Optimizer
from fnnet.optimizers.leaves import zero_step
from fnnet.trees import all_finite
from fnnet.types import Array, Params

LARGEST, SMALLEST = 2.0**30, 2.0**-10


class LossScaleState(NamedTuple):
    inner: Any
    scale: Array  # float32, for the next step
    finite: Array  # steps since the scale last changed
    skipped: Array  # updates skipped in all


def dynamic_loss_scale(optimizer: Optimizer, initial: float = 2.0**15, period: int = 2000) -> Optimizer:
    """Steps of ``optimizer`` on gradients from a scaled backward pass, in a model inside ``fnnet.LowPrecision``.

    Gradients in float16 below 6e-8 are 0 and above 65504 infinite. The backward pass of ``S · cost`` lifts them into
    that range; ``train_step`` takes ``S`` from this state, and the gradients that arrive here are divided by it again.
    Where one of them is NaN or infinite, ``S ← S / 2`` and no step is made, nor does the state of ``optimizer``
    change; after ``period`` finite steps in a row, ``S ← 2 S``. ``initial``, best a power of two, may be too high: the
    first steps halve it. ``state.skipped`` counts the updates that were skipped.
    Source: Micikevicius et al. 2018, section 3.2.
    """
    place = "optimizers.dynamic_loss_scale"
    checks.positive_integer(place, "period", period)
    checks.in_range(place, "initial", initial, SMALLEST, LARGEST)

    def init(params: Params) -> LossScaleState:
        return LossScaleState(optimizer.init(params), jnp.asarray(initial, jnp.float32), zero_step(), zero_step())

    def update(grads: Params, state: LossScaleState, params: Params | None = None) -> tuple[Params, LossScaleState]:
        finite = all_finite(grads)

        def step() -> tuple[Params, LossScaleState]:
            updates, inner = optimizer.update(grads, state.inner, params)
            grown = state.finite + 1 == period
            scale = jnp.where(grown, jnp.minimum(2 * state.scale, LARGEST), state.scale)
            return updates, LossScaleState(inner, scale, jnp.where(grown, 0, state.finite + 1), state.skipped)

        def skip() -> tuple[Params, LossScaleState]:
            scale = jnp.maximum(state.scale / 2, SMALLEST)
            return jax.tree.map(jnp.zeros_like, grads), LossScaleState(
                state.inner, scale, jnp.zeros_like(state.finite), state.skipped + 1
            )

        return tuple(jax.lax.cond(finite, step, skip))

    return Optimizer(init, update)


def loss_scale(opt_state: Any) -> Array | None:
    """The scale in an optimizer's state, wherever in it ``dynamic_loss_scale`` stands; None without one."""
    found = [
        leaf.scale
        for leaf in jax.tree.leaves(opt_state, is_leaf=lambda leaf: isinstance(leaf, LossScaleState))
        if isinstance(leaf, LossScaleState)
    ]
    checks.require(
        len(found) < 2, f"train_step: the optimizer has {len(found)} dynamic_loss_scale; expected at most one"
    )
    return found[0] if found else None
