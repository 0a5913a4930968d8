"""Optimizers around an optimizer: accumulation, skipped updates, averages of the parameters, look-ahead."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.checks import at_least_float32
from fnnet.optimizers.base import Optimizer, apply_updates, kind_of, step_or, zero_step
from fnnet.optimizers.hyperparameters import check_decay_rate, check_not_negative, in_dtype, value_at
from fnnet.optimizers.leaves import map_leaves, params_given, wide, zero_moments
from fnnet.optimizers.loss_scale import LossScaleState
from fnnet.trees import all_finite
from fnnet.types import Array, Hyperparameter, Params


class AccumulateState(NamedTuple):
    inner: Any
    mean: Params  # the mean of the gradients since the last step
    accumulated: Array  # the number of these gradients
    weight: Array  # the sum of their weights
    next_weight: Array  # the weight of the next gradients


def accumulate(optimizer: Optimizer, every: int) -> Optimizer:
    """Return an optimizer that makes one step of ``optimizer`` after every ``every`` gradients, with their mean.

    The updates in between are 0. ``train_step`` weighs each gradient by what the cost of its batch is a mean over (see
    ``weighed``), so that the steps are those of batches ``every`` times as large, with the memory of small ones.
    Without ``train_step`` all gradients weigh alike. The last gradients of an epoch may count towards a step together
    with the first of the next one. The schedules of ``optimizer`` count its own steps. What belongs to a step, such as
    weight decay, stands inside: ``accumulate(chain(...), 4)``.
    """
    caller = "optimizers.accumulate"
    checks.positive_int32(caller, "every", every)
    kind = kind_of(caller, optimizer)

    def init(params: Params) -> AccumulateState:
        zeros = jnp.zeros((), jnp.float32)
        return AccumulateState(optimizer.init(wide(params)), zero_moments(params), zero_step(), zeros, zeros + 1)

    def update(grads: Params, state: AccumulateState, params: Params | None = None) -> tuple[Params, AccumulateState]:
        weight = state.weight + state.next_weight

        def leaf(g: Array, mean: Array) -> tuple[Array, Array]:
            own, all_ = (w.astype(mean.dtype) for w in (state.next_weight, jnp.where(weight > 0, weight, 1)))
            return g, mean + (g.astype(mean.dtype) - mean) * own / all_

        _, mean = map_leaves(caller, leaf, grads, state.mean)

        def step() -> tuple[Params, AccumulateState]:
            updates, inner = optimizer.update(mean, weighed(state.inner, weight), wide(params))
            zeros, count, none = jax.tree.map(jnp.zeros_like, (mean, state.accumulated, weight))
            return updates, AccumulateState(inner, zeros, count, none, none + 1)

        def wait() -> tuple[Params, AccumulateState]:
            after = AccumulateState(state.inner, mean, state.accumulated + 1, weight, jnp.ones_like(weight))
            return jax.tree.map(jnp.zeros_like, grads), after

        return step_or(state.accumulated + 1 == every, step, wait)

    return Optimizer(init, update, kind)


def weighed(opt_state: Any, weight: Array) -> Any:
    """Return the state of an optimizer in which ``accumulate`` gives the next gradients this weight in its mean."""

    def accumulates(state: Any) -> bool:
        return isinstance(state, AccumulateState)

    return jax.tree.map(
        lambda s: s._replace(next_weight=weight.astype(s.weight.dtype)) if accumulates(s) else s,
        opt_state,
        is_leaf=accumulates,
    )


class SkipState(NamedTuple):
    inner: Any
    skipped: Array  # the number of all skipped updates
    in_a_row: Array  # the number of skipped updates since the last step


def skip_non_finite(optimizer: Optimizer) -> Optimizer:
    """Return an optimizer that skips the updates of ``optimizer`` whose gradients are not all finite.

    Where a gradient is NaN or infinite, the updates are 0 and the state of ``optimizer`` does not change.
    ``state.skipped`` counts all skipped updates, ``state.in_a_row`` those since the last step: look at them after an
    epoch.
    """

    kind = kind_of("optimizers.skip_non_finite", optimizer)

    def init(params: Params) -> SkipState:
        return SkipState(optimizer.init(wide(params)), zero_step(), zero_step())

    def update(grads: Params, state: SkipState, params: Params | None = None) -> tuple[Params, SkipState]:
        def step() -> tuple[Params, SkipState]:
            updates, inner = optimizer.update(wide(grads), state.inner, wide(params))
            return updates, SkipState(inner, state.skipped, jnp.zeros_like(state.in_a_row))

        def skip() -> tuple[Params, SkipState]:
            return jax.tree.map(jnp.zeros_like, grads), SkipState(state.inner, state.skipped + 1, state.in_a_row + 1)

        return step_or(all_finite(grads), step, skip)

    return Optimizer(init, update, kind)


class AverageState(NamedTuple):
    inner: Any
    average: Params
    averaged: Array  # the number of steps whose parameters are in the average


WAITING = AccumulateState, SkipState, LossScaleState


def made_step(before: Any, after: Any) -> Array:
    """Return whether an update was a step for every optimizer in the state that may wait or skip."""

    def parts(state: Any) -> list[Any]:
        leaves: list[Any] = jax.tree.leaves(state, is_leaf=lambda s: isinstance(s, WAITING))
        return [leaf for leaf in leaves if isinstance(leaf, WAITING)]

    made = jnp.array(True)
    for b, a in zip(parts(before), parts(after), strict=True):
        made &= a.accumulated == 0 if isinstance(a, AccumulateState) else a.skipped == b.skipped
        made &= made_step(b.inner, a.inner)
    return made


def average_parameters(optimizer: Optimizer, decay: Hyperparameter | None = None) -> Optimizer:
    """Return an optimizer that makes the steps of ``optimizer`` and keeps an average of the parameters.

    Evaluate with the average, which is ``state.average``, in at least float32:

    - with ``decay=None``, the mean of the parameters after each step, ``θ̄ ← θ̄ + (θ − θ̄) / t``, where the first step
      replaces the initial parameters;
    - with a number or a schedule, the exponential moving average ``θ̄ ← ρ θ̄ + (1 − ρ) θ`` with ``ρ = decay``, starting
      at the initial parameters.

    ``update`` needs the parameters. It must be the outermost optimizer, because it adds the final updates itself. An
    update in which ``accumulate`` waits or that is skipped is no step: it changes neither the average nor its count.

    Source: Polyak and Juditsky 1992; from a late start with a high rate, Izmailov et al. 2018 (SWA).
    """
    caller = "optimizers.average_parameters"
    if decay is not None:
        check_decay_rate(caller, decay=decay)
    kind = kind_of(caller, optimizer)

    def init(params: Params) -> AverageState:
        start = jax.tree.map(lambda p: jnp.array(p, at_least_float32(p), copy=True), params)
        return AverageState(optimizer.init(params), start, zero_step())

    def update(grads: Params, state: AverageState, params: Params | None = None) -> tuple[Params, AverageState]:
        params = params_given(caller, params)
        updates, inner = optimizer.update(grads, state.inner, params)
        stepped = made_step(state.inner, inner)
        count = state.averaged + stepped.astype(jnp.int32)
        weight = None if decay is None else 1 - value_at(decay, state.averaged)

        def leaf(p: Array, average: Array) -> tuple[Array, Array]:
            w = 1 / jnp.maximum(count, 1).astype(average.dtype) if weight is None else in_dtype(weight, average.dtype)
            return p, jnp.where(stepped, average + w * (p.astype(average.dtype) - average), average)

        _, average = map_leaves(caller, leaf, apply_updates(params, updates), state.average)
        return updates, AverageState(inner, average, count)

    return Optimizer(init, update, kind)


class LookaheadState(NamedTuple):
    inner: Any
    slow: Params
    step: Array  # the number of fast steps


def lookahead(optimizer: Optimizer, every: int = 5, rate: Hyperparameter = 0.5) -> Optimizer:
    """Return an optimizer whose slow weights follow the fast weights of ``optimizer``.

    After every ``k`` fast steps ``θ``:  ``φ ← φ + α (θ − φ)``,  ``θ ← φ``,  with ``k = every`` and ``α = rate``.

    The state of ``optimizer`` is not reset. ``state.slow`` is ``φ``, the parameters to evaluate with. A schedule of
    ``rate`` counts the fast steps.

    Source: Zhang et al. 2019, algorithm 1.
    """
    caller = "optimizers.lookahead"
    checks.positive_int32(caller, "every", every)
    check_not_negative(caller, rate=rate)
    kind = kind_of(caller, optimizer)

    def init(params: Params) -> LookaheadState:
        return LookaheadState(optimizer.init(params), jax.tree.map(jnp.copy, params), zero_step())

    def update(grads: Params, state: LookaheadState, params: Params | None = None) -> tuple[Params, LookaheadState]:
        params = params_given(caller, params)
        fast, inner = optimizer.update(grads, state.inner, params)
        stepped = made_step(state.inner, inner)
        alpha, count = value_at(rate, state.step), state.step + stepped.astype(jnp.int32)
        meets = stepped & (count % every == 0)

        def leaf(u: Array, slow: Array, p: Array) -> tuple[Array, Array]:
            followed = slow + in_dtype(alpha, slow.dtype) * (p + u.astype(p.dtype) - slow)
            return jnp.where(meets, (followed - p).astype(u.dtype), u), jnp.where(meets, followed, slow)

        updates, slow = map_leaves(caller, leaf, fast, state.slow, given=(params,))
        return updates, LookaheadState(inner, slow, count)

    return Optimizer(init, update, kind)
