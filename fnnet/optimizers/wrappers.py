"""Optimizers around an optimizer: accumulation, skipped updates, averages of the parameters, look-ahead."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers.base import Optimizer, apply_updates
from fnnet.optimizers.hyperparameters import check_decay, check_not_negative, in_dtype, value_at
from fnnet.optimizers.leaves import map_leaves, moment_dtype, params_given, zero_moments, zero_step
from fnnet.trees import all_finite
from fnnet.types import Array, Hyperparameter, Params


class AccumulateState(NamedTuple):
    inner: Any
    mean: Params  # of the gradients since the last step
    gathered: Array  # how many these are


def accumulate(optimizer: Optimizer, every: int) -> Optimizer:
    """One step of ``optimizer`` after every ``every`` gradients, with their mean; updates of 0 between.

    For a cost that is a mean over examples it takes the steps of batches ``every`` times as large, with the memory of
    small ones, if all have the same size: in the mean of the gradients the examples of a smaller last batch count for
    more than the others (``drop_last=True`` leaves it out), and it may fall in one step with the next epoch's first.
    Schedules of ``optimizer`` count its own steps.
    """
    checks.positive_integer("optimizers.accumulate", "every", every)

    def init(params: Params) -> AccumulateState:
        return AccumulateState(optimizer.init(params), zero_moments(params), zero_step())

    def update(grads: Params, state: AccumulateState, params: Params | None = None) -> tuple[Params, AccumulateState]:
        def leaf(g: Array, mean: Array) -> tuple[Array, Array]:
            mean = mean + (g.astype(mean.dtype) - mean) / (state.gathered + 1).astype(mean.dtype)
            return mean.astype(g.dtype), mean

        means, wide = map_leaves("optimizers.accumulate", leaf, grads, state.mean)

        def step() -> tuple[Params, AccumulateState]:
            updates, inner = optimizer.update(means, state.inner, params)
            return updates, AccumulateState(inner, jax.tree.map(jnp.zeros_like, wide), jnp.zeros_like(state.gathered))

        def wait() -> tuple[Params, AccumulateState]:
            return jax.tree.map(jnp.zeros_like, grads), AccumulateState(state.inner, wide, state.gathered + 1)

        return tuple(jax.lax.cond(state.gathered + 1 == every, step, wait))

    return Optimizer(init, update)


class SkipState(NamedTuple):
    inner: Any
    skipped: Array  # updates skipped in all
    in_a_row: Array  # updates skipped since the last one that was made


def skip_non_finite(optimizer: Optimizer) -> Optimizer:
    """No step, and no change of ``optimizer``'s state, where a gradient is NaN or infinite; these are counted.

    ``state.skipped`` is the count, ``state.in_a_row`` that since the last step made: look at them after an epoch.
    """

    def init(params: Params) -> SkipState:
        return SkipState(optimizer.init(params), zero_step(), zero_step())

    def update(grads: Params, state: SkipState, params: Params | None = None) -> tuple[Params, SkipState]:
        finite = all_finite(grads)

        def step() -> tuple[Params, SkipState]:
            updates, inner = optimizer.update(grads, state.inner, params)
            return updates, SkipState(inner, state.skipped, jnp.zeros_like(state.in_a_row))

        def skip() -> tuple[Params, SkipState]:
            counted = SkipState(state.inner, state.skipped + 1, state.in_a_row + 1)
            return jax.tree.map(jnp.zeros_like, grads), counted

        return tuple(jax.lax.cond(finite, step, skip))

    return Optimizer(init, update)


class AverageState(NamedTuple):
    inner: Any
    average: Params
    averaged: Array  # how many parameters, one after each step, are in the average


def average_parameters(optimizer: Optimizer, decay: Hyperparameter | None = None) -> Optimizer:
    """The steps of ``optimizer``, with an average of the parameters in ``state.average``, to evaluate with.

    ``decay=None``: the mean of all parameters after a step, ``θ̄ ← θ̄ + (θ − θ̄) / t`` (Polyak and Juditsky 1992; from
    a late start, with a high rate, SWA: Izmailov et al. 2018). With a number or a schedule, the exponential moving
    average ``θ̄ ← β θ̄ + (1 − β) θ`` from the initial parameters. In at least float32. Needs the parameters in
    ``update``, and to be the outermost part of a chain: it adds the final updates itself.
    """
    place = "optimizers.average_parameters"
    if decay is not None:
        check_decay(place, decay=decay)

    def init(params: Params) -> AverageState:
        start = jax.tree.map(lambda p: jnp.array(p, moment_dtype(p), copy=True), params)
        return AverageState(optimizer.init(params), start, zero_step())

    def update(grads: Params, state: AverageState, params: Params | None = None) -> tuple[Params, AverageState]:
        params = params_given(place, params)
        updates, inner = optimizer.update(grads, state.inner, params)
        count = state.averaged + 1
        share = None if decay is None else 1 - value_at(decay, state.averaged)

        def leaf(p: Array, average: Array) -> tuple[Array, Array]:
            weight = 1 / count.astype(average.dtype) if share is None else in_dtype(share, average.dtype)
            return p, average + weight * (p.astype(average.dtype) - average)

        _, average = map_leaves(place, leaf, apply_updates(params, updates), state.average)
        return updates, AverageState(inner, average, count)

    return Optimizer(init, update)


class LookaheadState(NamedTuple):
    inner: Any
    slow: Params
    step: Array  # of the fast ones


def lookahead(optimizer: Optimizer, every: int = 5, rate: Hyperparameter = 0.5) -> Optimizer:
    """Slow weights that follow the fast ones of ``optimizer`` (Zhang et al. 2019, algorithm 1).

    After every ``k`` fast steps ``θ``:  ``φ ← φ + α (θ − φ)``,  ``θ ← φ``;  ``k = every``, ``α = rate``. The state of
    ``optimizer`` goes on. ``state.slow`` is ``φ``, the parameters to evaluate with. A schedule of ``α`` is of the fast
    steps.
    """
    place = "optimizers.lookahead"
    checks.positive_integer(place, "every", every)
    check_not_negative(place, rate=rate)

    def init(params: Params) -> LookaheadState:
        return LookaheadState(optimizer.init(params), jax.tree.map(jnp.copy, params), zero_step())

    def update(grads: Params, state: LookaheadState, params: Params | None = None) -> tuple[Params, LookaheadState]:
        params = params_given(place, params)
        fast, inner = optimizer.update(grads, state.inner, params)
        alpha, count = value_at(rate, state.step), state.step + 1
        meets = count % every == 0

        def leaf(u: Array, slow: Array, p: Array) -> tuple[Array, Array]:
            followed = slow + in_dtype(alpha, slow.dtype) * (p + u.astype(p.dtype) - slow)
            return jnp.where(meets, (followed - p).astype(u.dtype), u), jnp.where(meets, followed, slow)

        updates, slow = map_leaves(place, leaf, fast, state.slow, given=(params,))
        return updates, LookaheadState(inner, slow, count)

    return Optimizer(init, update)
