"""The loss scale of float16 training, which is adapted while training."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers.base import Optimizer, kind_of, step_or, zero_step
from fnnet.optimizers.leaves import wide
from fnnet.trees import all_finite
from fnnet.types import Array, Params

LARGEST, SMALLEST = 2.0**30, 2.0**-10


class LossScaleState(NamedTuple):
    inner: Any
    scale: Array  # float32, for the next step
    finite: Array  # the number of finite steps since the scale last changed
    skipped: Array  # the number of all skipped updates


def dynamic_loss_scale(optimizer: Optimizer, initial: float = 2.0**15, period: int = 2000) -> Optimizer:
    """Return an optimizer that makes the steps of ``optimizer`` and adapts the loss scale ``S`` of the backward pass.

    Use it for a model inside ``fnnet.LowPrecision``. Gradients in float16 are 0 below 6e-8 and infinite above 65504;
    the backward pass of ``S · cost`` brings them into that range. ``train_step`` reads ``S`` from the state of this
    optimizer, and the gradients that ``update`` takes are already divided by ``S``.

    - Where a gradient is NaN or infinite, ``S ← S / 2``, the updates are 0, and the state of ``optimizer`` does not
      change.
    - After ``period`` finite steps in a row, ``S ← 2 S``.

    ``initial``, preferably a power of two, may be too high: the first steps halve it. ``state.skipped`` counts the
    skipped updates.

    Source: Micikevicius et al. 2018, section 3.2.
    """
    caller = "optimizers.dynamic_loss_scale"
    kind = kind_of(caller, optimizer)
    checks.positive_int32(caller, "period", period)
    checks.in_range(caller, "initial", initial, SMALLEST, LARGEST)

    def init(params: Params) -> LossScaleState:
        return LossScaleState(optimizer.init(wide(params)), jnp.asarray(initial, jnp.float32), zero_step(), zero_step())

    def update(grads: Params, state: LossScaleState, params: Params | None = None) -> tuple[Params, LossScaleState]:
        def step() -> tuple[Params, LossScaleState]:
            updates, inner = optimizer.update(wide(grads), state.inner, wide(params))
            grows = state.finite + 1 == period
            scale = jnp.where(grows, jnp.minimum(2 * state.scale, LARGEST), state.scale)
            return updates, LossScaleState(inner, scale, jnp.where(grows, 0, state.finite + 1), state.skipped)

        def skip() -> tuple[Params, LossScaleState]:
            scale, finite = jnp.maximum(state.scale / 2, SMALLEST), jnp.zeros_like(state.finite)
            zeros = jax.tree.map(jnp.zeros_like, grads)
            return zeros, LossScaleState(state.inner, scale, finite, state.skipped + 1)

        return step_or(all_finite(grads), step, skip)

    return Optimizer(init, update, kind)


def loss_scale(opt_state: Any) -> Array | None:
    """Return the scale in the state of an optimizer that contains ``dynamic_loss_scale``, or None without one."""
    found = [
        leaf.scale
        for leaf in jax.tree.leaves(opt_state, is_leaf=lambda leaf: isinstance(leaf, LossScaleState))
        if isinstance(leaf, LossScaleState)
    ]
    checks.require(
        len(found) < 2,
        f"train_step: the optimizer contains dynamic_loss_scale {len(found)} times; expected it at most once",
    )
    return found[0] if found else None
