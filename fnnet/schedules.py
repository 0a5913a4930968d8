"""Schedules: functions of the step, for any hyper-parameter of an optimizer. The step counts from 0.

Each function here returns a schedule, ``schedule(step) -> value``, whose step ``t`` is a Python integer or a traced
array. Any other function of the step is a schedule as well, and schedules combine by arithmetic:
``lambda step: warmup(cosine(0.1, 900), 100)(step) / 2``. In the formulas ``α`` is ``start``.
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

LAST_STEP = 2**31 - 1  # the largest int32, the dtype in which optimizers count


def constant(value: Scalar) -> Schedule:
    """Return the schedule that is always ``value``."""
    check_at_least_zero("schedules.constant", value=value)
    return lambda step: as_float(value)


def step_decay(start: Scalar, factor: Scalar, every: int) -> Schedule:
    """Return the schedule ``α · factorᵏ`` with ``k = ⌊t / every⌋``."""
    checks.positive_integer("schedules.step_decay", "every", every)
    check_above_zero("schedules.step_decay", factor=factor)
    check_at_least_zero("schedules.step_decay", start=start)

    def schedule(step: Any) -> Array:
        t, length = comparable(step, every)
        return start * as_float(factor) ** as_float(jnp.floor_divide(t, length))

    return schedule


def piecewise(boundaries: Sequence[int], values: Sequence[Scalar]) -> Schedule:
    """Return the schedule ``values[i]``, where ``i`` is the number of boundaries that ``t`` has reached.

    A new value holds from each boundary on; there is one value more than there are boundaries.
    """
    caller = "schedules.piecewise"
    checks.require(
        len(values) == len(boundaries) + 1,
        f"{caller}: there are {len(boundaries)} boundaries and {len(values)} values; expected one value more than "
        f"boundaries",
    )
    checks.require(
        all(a < b for a, b in pairwise(boundaries)) and all(b > 0 for b in boundaries),
        f"{caller}: boundaries are {list(boundaries)}; expected increasing numbers above 0",
    )
    check_at_least_zero(caller, **{f"values[{i}]": value for i, value in enumerate(values)})

    def schedule(step: Any) -> Array:
        return jnp.stack([as_float(value) for value in values])[count_reached(step, boundaries)]

    return schedule


def exponential(start: Scalar, factor: Scalar, every: Scalar = 1) -> Schedule:
    """Return the schedule ``α · factor^(t / every)``, which is multiplied by ``factor`` in every ``every`` steps."""
    check_above_zero("schedules.exponential", factor=factor, every=every)
    check_at_least_zero("schedules.exponential", start=start)
    # The error of a power of the factor, which would be rounded to float32 first, would grow with every step.
    rate = math.log(factor) if isinstance(factor, (int, float)) else jnp.log(as_float(factor))
    return lambda step: start * jnp.exp(as_float(step) / as_float(every) * rate)


def inverse_time(start: Scalar, rate: Scalar, power: Scalar = 1.0) -> Schedule:
    """Return the schedule ``α / (1 + rate · t)^power``.

    With a power in (½, 1], the rates meet the conditions of Robbins and Monro (1951): their sum diverges and the sum of
    their squares converges.
    """
    check_at_least_zero("schedules.inverse_time", start=start, rate=rate, power=power)
    return lambda step: start / (1 + rate * as_float(step)) ** as_float(power)


def polynomial(start: Scalar, end: Scalar, steps: int, power: Scalar = 1.0) -> Schedule:
    """Return the schedule ``α_end + (α − α_end) (1 − s)^power`` with ``s = min(t / steps, 1)``; linear by default."""
    checks.positive_integer("schedules.polynomial", "steps", steps)
    check_above_zero("schedules.polynomial", power=power)
    check_at_least_zero("schedules.polynomial", start=start, end=end)
    return lambda step: end + (start - end) * remaining(step, steps) ** as_float(power)


def cosine(start: Scalar, steps: int, end: Scalar = 0.0) -> Schedule:
    """Return the schedule ``α_end + (α − α_end) (1 + cos πs) / 2`` with ``s = min(t / steps, 1)``.

    Source: Loshchilov and Hutter 2017, eq. 5.
    """
    checks.positive_integer("schedules.cosine", "steps", steps)
    check_at_least_zero("schedules.cosine", start=start, end=end)
    return lambda step: end + (start - end) * half_cosine(remaining(step, steps))


def cosine_restarts(start: Scalar, period: int, factor: int = 1, end: Scalar = 0.0) -> Schedule:
    """Return the schedule that repeats ``cosine``, over ``period`` steps first, and each time ``factor`` times longer.

    Source: Loshchilov and Hutter 2017, section 3 (``T_0 = period``, ``T_mult = factor``).
    """
    checks.positive_integer("schedules.cosine_restarts", "period", period)
    checks.positive_integer("schedules.cosine_restarts", "factor", factor)
    check_at_least_zero("schedules.cosine_restarts", start=start, end=end)

    begins, lengths = [0], [period]
    while factor > 1 and begins[-1] + lengths[-1] <= LAST_STEP**2:
        begins.append(begins[-1] + lengths[-1])
        lengths.append(lengths[-1] * factor)

    def schedule(step: Any) -> Array:
        if factor == 1:
            t, length = comparable(step, period)
            left = length - jnp.mod(t, length)
        else:
            restarts = count_reached(step, begins[1:])
            length = jnp.asarray(lengths, float_dtype())[restarts]
            t, _ = comparable(step, 0)
            left = length - as_float(t - jnp.asarray(within(t, begins), t.dtype)[restarts])
        return end + (start - end) * half_cosine(as_float(left) / as_float(length))

    return schedule


def warmup(schedule: Hyperparameter, steps: int, start: Scalar = 0.0) -> Schedule:
    """Return the schedule that rises linearly from ``start`` over ``steps`` steps, and then follows ``schedule``.

    ``schedule``, which may be a number, starts at its step 0 after the warm-up; its value there is the end of the rise.
    The first step has the value ``start``: with 0, the first update changes nothing.
    """
    checks.positive_integer("schedules.warmup", "steps", steps)
    check_at_least_zero("schedules.warmup", start=start)
    follow = schedule if callable(schedule) else constant(schedule)

    def joined(step: Any) -> Array:
        t, length = comparable(step, steps)
        first, later = as_float(follow(jnp.zeros_like(t))), as_float(follow(jnp.maximum(t - length, 0)))
        return jnp.where(t < length, start + (first - start) * jnp.minimum(as_float(t) / float(steps), 1), later)

    return joined


def one_cycle(
    peak: Scalar, steps: int, *, rise: Scalar = 0.3, start_factor: Scalar = 25.0, end_factor: Scalar = 1e4
) -> Schedule:
    """Return the schedule that rises to ``peak`` and falls to almost 0, both along half a cosine.

    It rises from ``peak / start_factor`` over the first ``rise · steps`` steps, falls to
    ``peak / (start_factor · end_factor)`` at step ``steps``, and stays there. This is PyTorch's form with
    ``three_phase=False``, except that both ends of PyTorch's schedule lie one step earlier.

    Source: Smith and Topin 2018, section 3.
    """
    caller = "schedules.one_cycle"
    checks.positive_integer(caller, "steps", steps)
    check_above_zero(caller, start_factor=start_factor, end_factor=end_factor)
    check_at_least_zero(caller, peak=peak)
    check_inside("schedules.one_cycle", rise=rise)
    low, last, top = peak / start_factor, peak / (start_factor * end_factor), rise * float(steps)

    def schedule(step: Any) -> Array:
        t = as_float(step)
        up = low + (peak - low) * half_cosine(jnp.minimum(t / top, 1))
        down = last + (peak - last) * half_cosine(jnp.clip((float(steps) - t) / (float(steps) - top), 0, 1))
        return jnp.where(t < top, up, down)

    return schedule


class PlateauState(NamedTuple):
    """The state of ``reduce_on_plateau``, all scalars; ``scale`` is the factor to multiply the learning rate by."""

    scale: Array  # the factor of the learning rate
    best: Array  # the lowest value so far
    waited: Array  # the number of values since the lowest one, or since the last reduction
    cooling: Array  # the number of values that are still ignored


class Plateau(NamedTuple):
    """The functions ``init() -> state`` and ``update(state, value) -> state``."""

    init: Callable[[], PlateauState]
    update: Callable[[PlateauState, Any], PlateauState]


def reduce_on_plateau(
    factor: Scalar = 0.1, patience: int = 10, *, tolerance: Scalar = 1e-4, cooldown: int = 0, lowest: Scalar = 0.0
) -> Plateau:
    """Return a factor for the learning rate that is reduced when a value, such as the validation cost, stops falling.

    A value is better if it is below ``best · (1 − tolerance)``, or below ``best − tolerance |best|`` if ``best`` is
    negative. NaN is never better. After more than ``patience`` values in a row that are not better,
    ``scale ← max(factor · scale, lowest)``, and the next ``cooldown`` values are not counted. This is PyTorch's
    ``ReduceLROnPlateau`` as a pure function.

    Call ``state = plateau.init()`` first, and ``state = plateau.update(state, cost)`` after every epoch. Build the
    optimizer inside the compiled function, with a traced rate: ``adam(1e-3 * state.scale)``.
    """
    caller = "schedules.reduce_on_plateau"
    check_inside(caller, factor=factor)
    check_at_least_zero(caller, patience=patience, tolerance=tolerance, cooldown=cooldown, lowest=lowest)

    def init() -> PlateauState:
        return PlateauState(as_float(1.0), as_float(jnp.inf), jnp.zeros((), int), jnp.zeros((), int))

    def update(state: PlateauState, value: Any) -> PlateauState:
        value = as_float(value)
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


def float_dtype() -> Any:
    """Return float32, or float64 where that is enabled."""
    return jnp.result_type(float)


def as_float(value: Any) -> Array:
    return jnp.asarray(float(value) if isinstance(value, int) else value).astype(float_dtype())


def count_reached(step: Any, boundaries: Sequence[int]) -> Array:
    """Return the number of boundaries that the step has reached."""
    t, _ = comparable(step, 0)
    return (t[..., None] >= jnp.asarray(within(t, boundaries), t.dtype)).sum(-1)


def within(t: Array, steps: Sequence[int]) -> list[int]:
    """Return the steps that the dtype of ``t`` holds; ``t`` reaches no other."""
    return [s for s in steps if not jnp.issubdtype(t.dtype, jnp.integer) or s <= jnp.iinfo(t.dtype).max]


def remaining(step: Any, steps: int) -> Array:
    """Return ``1 − min(t / steps, 1)``; no digits cancel near the end."""
    t, length = comparable(step, steps)
    return as_float(jnp.maximum(length - t, 0)) / float(steps)


def comparable(step: Any, length: int) -> tuple[Array, Array]:
    """Return a step and a number of steps in one dtype: that of the step if it holds both, else floating point."""
    largest = max(length, step) if isinstance(step, int) else length
    t = jnp.asarray(float(step) if largest > LAST_STEP and isinstance(step, int) else step)
    fits = jnp.issubdtype(t.dtype, jnp.integer) and largest <= jnp.iinfo(t.dtype).max
    t = t if fits else as_float(t)
    return t, jnp.asarray(length if fits else float(length), t.dtype)


def half_cosine(r: Array) -> Array:
    """Return ``(1 − cos πr) / 2``, which is 0 at 0 and 1 at 1, as ``sin²(πr/2)``; no digits cancel near ``r = 0``."""
    return jnp.square(jnp.sin(jnp.pi / 2 * r))


def check_above_zero(caller: str, **values: Scalar) -> None:
    for name, value in values.items():
        checks.above_zero(caller, name, value)


def check_inside(caller: str, **values: Scalar) -> None:
    for name, value in values.items():
        checks.a_number(caller, name, value)
        number = checks.known(value)
        checks.require(
            number is None or bool(0 < number < 1), f"{caller}: {name} is {value}; expected a number in (0, 1)"
        )


def check_at_least_zero(caller: str, **values: Scalar) -> None:
    for name, value in values.items():
        checks.in_range(caller, name, value, 0, float("inf"), open_high=True)
