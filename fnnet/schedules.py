"""Schedules: functions of the step, for any hyper-parameter of an optimizer. The step counts from 0.

Each function here returns a schedule, ``schedule(step) -> value``, for a step ``t`` that is a Python integer or traced.
Any other function of the step will do as well, and they combine by arithmetic:
``lambda step: warmup(cosine(0.1, 900), 100)(step) / 2``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax.numpy as jnp

from fnnet import checks
from fnnet.types import Array, Hyperparameter, Scalar, Schedule

__all__ = [
    "Plateau",
    "PlateauState",
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "inverse_time",
    "one_cycle",
    "piecewise",
    "polynomial",
    "reduce_on_plateau",
    "step_decay",
    "warmup",
]

LAST_STEP = 2**31 - 1  # of the int32 that optimizers count in


def constant(value: Scalar) -> Schedule:
    """``α``."""
    check_not_negative("schedules.constant", value=value)
    return lambda step: jnp.asarray(value).astype(real_dtype())


def step_decay(start: Scalar, factor: Scalar, every: int) -> Schedule:
    """``α · factorᵏ`` with ``k = ⌊t / every⌋``."""
    checks.positive_integer("schedules.step_decay", "every", every)
    check_positive("schedules.step_decay", factor=factor)
    check_not_negative("schedules.step_decay", start=start)
    return lambda step: start * real(factor) ** jnp.floor_divide(jnp.asarray(step), every).astype(real_dtype())


def piecewise(boundaries: Sequence[int], values: Sequence[Scalar]) -> Schedule:
    """``values[i]``, where ``i`` is the number of boundaries that ``t`` has reached: a new value from each on."""
    place = "schedules.piecewise"
    checks.require(
        len(values) == len(boundaries) + 1,
        f"{place}: {len(boundaries)} boundaries and {len(values)} values; expected one value more than boundaries",
    )
    checks.require(
        all(a < b for a, b in pairwise(boundaries)) and all(b > 0 for b in boundaries),
        f"{place}: boundaries are {list(boundaries)}; expected them to increase from above 0",
    )
    check_not_negative(place, **{f"values[{i}]": value for i, value in enumerate(values)})

    def schedule(step: Any) -> Array:
        return jnp.stack([real(value) for value in values])[reached(step, boundaries)]

    return schedule


def exponential(start: Scalar, factor: Scalar, every: Scalar = 1) -> Schedule:
    """``α · factor^(t / every)``: a factor of ``factor`` every ``every`` steps."""
    check_positive("schedules.exponential", factor=factor, every=every)
    check_not_negative("schedules.exponential", start=start)
    # Not a power of the factor rounded to float32, whose error would grow with every step.
    rate = math.log(factor) if isinstance(factor, (int, float)) else jnp.log(real(factor))
    return lambda step: start * jnp.exp(real(step) / every * rate)


def inverse_time(start: Scalar, rate: Scalar, power: Scalar = 1.0) -> Schedule:
    """``α / (1 + rate · t)^power``; with powers in (½, 1] the sums that Robbins and Monro (1951) ask for."""
    check_not_negative("schedules.inverse_time", start=start, rate=rate, power=power)
    return lambda step: start / (1 + rate * real(step)) ** real(power)


def polynomial(start: Scalar, end: Scalar, steps: int, power: Scalar = 1.0) -> Schedule:
    """``α_end + (α − α_end) (1 − s)^power``,  ``s = min(t / steps, 1)``; linear by default."""
    checks.positive_integer("schedules.polynomial", "steps", steps)
    check_positive("schedules.polynomial", power=power)
    check_not_negative("schedules.polynomial", start=start, end=end)
    return lambda step: end + (start - end) * remaining(step, steps) ** real(power)


def cosine(start: Scalar, steps: int, end: Scalar = 0.0) -> Schedule:
    """``α_end + (α − α_end) (1 + cos πs) / 2``,  ``s = min(t / steps, 1)`` (Loshchilov and Hutter 2017, eq. 5)."""
    checks.positive_integer("schedules.cosine", "steps", steps)
    check_not_negative("schedules.cosine", start=start, end=end)
    return lambda step: end + (start - end) * half_cosine(remaining(step, steps))


def cosine_restarts(start: Scalar, period: int, factor: int = 1, end: Scalar = 0.0) -> Schedule:
    """``cosine`` again and again: over ``period`` steps, then each time over ``factor`` times as many.

    Source: Loshchilov and Hutter 2017, section 3 (``T_0 = period``, ``T_mult = factor``).
    """
    checks.positive_integer("schedules.cosine_restarts", "period", period)
    checks.positive_integer("schedules.cosine_restarts", "factor", factor)
    check_not_negative("schedules.cosine_restarts", start=start, end=end)

    begins, lengths = [0], [period]
    while factor > 1 and begins[-1] + lengths[-1] <= LAST_STEP:
        begins.append(begins[-1] + lengths[-1])
        lengths.append(lengths[-1] * factor)

    def schedule(step: Any) -> Array:
        t = jnp.asarray(step)
        if factor == 1:
            left, length = period - jnp.mod(t, period), real(period)
        else:
            restarts = reached(t, begins[1:])
            length = jnp.asarray(lengths, real_dtype())[restarts]
            left = length - real(t - jnp.asarray(begins, t.dtype)[restarts])
        return end + (start - end) * half_cosine(real(left) / length)

    return schedule


def warmup(schedule: Hyperparameter, steps: int, start: Scalar = 0.0) -> Schedule:
    """Linear from ``start`` to a schedule's first value over ``steps`` steps, then the schedule from its step 0 on.

    ``schedule`` may be a number. The first step has ``start`` itself: from 0 it moves nothing.
    """
    checks.positive_integer("schedules.warmup", "steps", steps)
    check_not_negative("schedules.warmup", start=start)
    follow = schedule if callable(schedule) else constant(schedule)

    def joined(step: Any) -> Array:
        step = jnp.asarray(step)
        first, later = real(follow(jnp.zeros_like(step))), real(follow(jnp.maximum(step - steps, 0)))
        return jnp.where(step < steps, start + (first - start) * progress(step, steps), later)

    return joined


def one_cycle(
    peak: Scalar, steps: int, *, rise: float = 0.3, start_factor: Scalar = 25.0, end_factor: Scalar = 1e4
) -> Schedule:
    """Up to ``peak`` and down to almost nothing, both along half a cosine (Smith and Topin 2018, section 3).

    From ``peak / start_factor`` up over the first ``rise · steps`` steps, then down to
    ``peak / (start_factor · end_factor)`` at step ``steps``, and on at that. PyTorch's form with ``three_phase=False``,
    whose two ends lie one step earlier.
    """
    place = "schedules.one_cycle"
    checks.positive_integer(place, "steps", steps)
    check_positive(place, start_factor=start_factor, end_factor=end_factor)
    check_not_negative(place, peak=peak)
    checks.require(0 < rise < 1, f"{place}: rise is {rise}; expected a share of the steps in (0, 1)")
    low, last, top = peak / start_factor, peak / (start_factor * end_factor), rise * steps

    def schedule(step: Any) -> Array:
        t = real(step)
        up = low + (peak - low) * half_cosine(jnp.minimum(t / top, 1))
        down = last + (peak - last) * half_cosine(jnp.clip((steps - t) / (steps - top), 0, 1))
        return jnp.where(t < top, up, down)

    return schedule


class PlateauState(NamedTuple):
    scale: Array  # what to multiply the learning rate with
    best: Array  # the lowest value so far
    waited: Array  # values since then, and since the last reduction
    cooling: Array  # values still to be ignored


class Plateau(NamedTuple):
    """``init() -> state`` and ``update(state, value) -> state``."""

    init: Callable[[], PlateauState]
    update: Callable[[PlateauState, Any], PlateauState]


def reduce_on_plateau(
    factor: float = 0.1, patience: int = 10, *, tolerance: float = 1e-4, cooldown: int = 0, lowest: float = 0.0
) -> Plateau:
    """A factor for the learning rate that falls when a value, such as the validation cost, has stopped to fall.

    A value below ``best · (1 − tolerance)`` is better (below ``best − tolerance |best|`` for negative ones); after more
    than ``patience`` values in a row that are not, ``scale ← max(factor · scale, lowest)``, and the next ``cooldown``
    values are not counted. A NaN is never better. PyTorch's ``ReduceLROnPlateau``, as a pure function:

    ``state = plateau.init()``; after every epoch ``state = plateau.update(state, cost)``; and the optimizer, built
    inside the compiled function, with a traced rate: ``adam(1e-3 * state.scale)``.
    """
    place = "schedules.reduce_on_plateau"
    checks.require(0 < factor < 1, f"{place}: factor is {factor}; expected a number in (0, 1)")
    check_not_negative(place, patience=patience, tolerance=tolerance, cooldown=cooldown, lowest=lowest)

    def init() -> PlateauState:
        return PlateauState(real(1.0), real(jnp.inf), jnp.zeros((), int), jnp.zeros((), int))

    def update(state: PlateauState, value: Any) -> PlateauState:
        value = real(value)
        bar = jnp.where(jnp.isinf(state.best), state.best, state.best - tolerance * jnp.abs(state.best))
        better = value < bar
        cooling = jnp.maximum(state.cooling - 1, 0)
        waited = jnp.where(better | (state.cooling > 0), 0, state.waited + 1)
        reduce = waited > patience
        return PlateauState(
            jnp.where(reduce, jnp.maximum(factor * state.scale, lowest), state.scale),
            jnp.where(better, value, state.best),
            jnp.where(reduce, 0, waited),
            jnp.where(reduce, cooldown, cooling),
        )

    return Plateau(init, update)


def real_dtype() -> Any:
    """float32, or float64 where that is enabled."""
    return jnp.result_type(float)


def real(value: Any) -> Array:
    return jnp.asarray(value).astype(real_dtype())


def reached(step: Any, boundaries: Sequence[int]) -> Array:
    """How many of the boundaries the step has reached."""
    t = jnp.asarray(step)
    return (t[..., None] >= jnp.asarray(boundaries, t.dtype)).sum(-1)


def progress(step: Any, steps: int) -> Array:
    """``min(t / steps, 1)``."""
    return jnp.minimum(real(step) / steps, 1)


def remaining(step: Any, steps: int) -> Array:
    """``1 − min(t / steps, 1)``, with all its digits near the end."""
    return real(jnp.maximum(steps - jnp.asarray(step), 0)) / steps


def half_cosine(r: Array) -> Array:
    """``(1 − cos πr) / 2`` as ``sin²(πr/2)``, which keeps its digits near ``r = 0``: from 1 at 1 to 0 at 0."""
    return jnp.square(jnp.sin(jnp.pi / 2 * r))


def check_positive(place: str, **values: Scalar) -> None:
    for name, value in values.items():
        if checks.is_concrete(value):
            checks.require(bool(value > 0), f"{place}: {name} is {value}; expected a number above 0")


def check_not_negative(place: str, **values: Scalar) -> None:
    for name, value in values.items():
        checks.in_range(place, name, value, 0, float("inf"), open_high=True)
