"""Schedules are compared with plain functions of Python numbers."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import schedules
from fnnet.optimizers import sgd
from fnnet.optimizers.base import StepState
from fnnet.types import Schedule
from tests.compare import CountingTraces

STEPS = 200
Plain = Callable[[int], float]


def cosine(start: float, end: float, s: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(s, 1))) / 2


def restarting(start: float, period: int, factor: int, end: float = 0.0) -> Plain:
    """Return a cosine that restarts, by counting the periods."""

    def value(t: int) -> float:
        length = period
        while t >= length:
            t, length = t - length, length * factor
        return cosine(start, end, t / length)

    return value


def cycle(t: int) -> float:
    """Return a cycle of 135 steps with its peak 0.5 after 40.5 steps."""
    if t < 40.5:
        return cosine(0.5 / 10, 0.5, t / 40.5)
    return cosine(0.5, 0.5 / 1000, (t - 40.5) / (135 - 40.5))


def warmed(schedule: Plain, steps: int, start: float = 0.0) -> Plain:
    return lambda t: start + (schedule(0) - start) * t / steps if t < steps else schedule(t - steps)


# name: a schedule as a function of its numbers, the numbers, and the same function in Python
SCHEDULES: dict[str, tuple[Callable[..., Schedule], tuple[float, ...], Callable[..., Plain]]] = {
    "constant": (schedules.constant, (0.3,), lambda a: lambda t: a),
    "step_decay": (
        lambda a, f: schedules.step_decay(a, f, 30), (0.3, 0.1), lambda a, f: lambda t: a * f ** (t // 30),
    ),
    "piecewise": (
        lambda a, b, c: schedules.piecewise([10, 150], [a, b, c]),
        (0.3, 0.2, 0.7),
        lambda a, b, c: lambda t: a if t < 10 else b if t < 150 else c,
    ),
    "piecewise, one": (lambda a: schedules.piecewise([], [a]), (0.3,), lambda a: lambda t: a),
    "exponential": (schedules.exponential, (0.3, 0.97), lambda a, f: lambda t: a * f**t),
    "exponential, every": (schedules.exponential, (0.3, 0.5, 70.0), lambda a, f, e: lambda t: a * f ** (t / e)),
    "inverse_time": (schedules.inverse_time, (0.3, 0.05), lambda a, r: lambda t: a / (1 + r * t)),
    "inverse_time, root": (schedules.inverse_time, (0.3, 0.05, 0.5), lambda a, r, p: lambda t: a / (1 + r * t) ** p),
    "polynomial": (
        lambda a: schedules.polynomial(a, 0.0, 150), (0.3,), lambda a: lambda t: a * max(150 - t, 0) / 150,
    ),
    "polynomial, cubic": (
        lambda a, b, p: schedules.polynomial(a, b, 150, p),
        (0.3, 0.1, 3.0),
        lambda a, b, p: lambda t: b + (a - b) * (max(150 - t, 0) / 150) ** p,
    ),
    "cosine": (lambda a: schedules.cosine(a, 150), (0.3,), lambda a: lambda t: cosine(a, 0, t / 150)),
    "cosine, to an end": (
        lambda a, b: schedules.cosine(a, 150, b), (0.3, 0.01), lambda a, b: lambda t: cosine(a, b, t / 150),
    ),
    "cosine_restarts": (
        lambda a: schedules.cosine_restarts(a, 30), (0.3,), lambda a: restarting(a, 30, 1),
    ),
    "cosine_restarts, doubling": (
        lambda a, b: schedules.cosine_restarts(a, 7, 2, b), (0.3, 0.1), lambda a, b: restarting(a, 7, 2, b),
    ),
    "warmup of a number": (lambda a: schedules.warmup(a, 20), (0.3,), lambda a: warmed(lambda t: a, 20)),
    "warmup of cosine": (
        lambda a, b: schedules.warmup(schedules.cosine(a, 150), 20, b),
        (0.3, 0.01),
        lambda a, b: warmed(lambda t: cosine(a, 0, t / 150), 20, b),
    ),
    "one_cycle": (
        lambda a, b, c: schedules.one_cycle(a, 135, start_factor=b, end_factor=c),
        (0.5, 10.0, 100.0),
        lambda a, b, c: cycle,
    ),
}  # fmt: skip
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


@every_schedule
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_two_hundred_steps_equal_python(name: str, precision: str) -> None:
    """The steps are Python integers or traced; the digits are right also near an end of 0."""
    make, numbers, plain = SCHEDULES[name]
    with jax.enable_x64(precision == "float64"):
        schedule = make(*numbers)
        counted = CountingTraces(schedule)
        traced = jax.jit(jax.vmap(counted))(jnp.arange(STEPS, dtype=jnp.int32))
        expected = np.array([plain(*numbers)(t) for t in range(STEPS)])
        assert traced.dtype == jnp.dtype(precision)
        assert counted.count == 1
        tolerance = {"float32": 1e-6, "float64": 1e-12}[precision]
        np.testing.assert_allclose(traced, expected, rtol=tolerance, atol=tolerance * 1e-3 * expected.max())
        for t in (0, 1, 29, 30, 149, 150, 199):
            np.testing.assert_allclose(float(schedule(t)), expected[t], rtol=tolerance, atol=1e-3 * tolerance)


@every_schedule
@pytest.mark.usefixtures("x64")
def test_numbers_of_schedules_under_vmap(name: str) -> None:
    make, numbers, plain = SCHEDULES[name]
    if name == "one_cycle":
        numbers, plain = (0.5, 10.0, 100.0), lambda a, b, c: lambda t: a / 0.5 * cycle(t)
        pairs = (jnp.array([0.5, 1.5]), jnp.array([10.0, 10.0]), jnp.array([100.0, 100.0]))
    else:
        pairs = tuple(jnp.array([x, 0.9 * x]) for x in numbers)
    together = jax.jit(jax.vmap(lambda *xs: jax.vmap(make(*xs))(jnp.arange(STEPS))))(*pairs)
    for i in range(2):
        function = plain(*(float(pair[i]) for pair in pairs))
        expected = np.array([function(t) for t in range(STEPS)])
        np.testing.assert_allclose(together[i], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("x64", [False, True])
def test_every_schedule_is_a_learning_rate(x64: bool) -> None:
    """The optimizer counts the steps, and no dtype is promoted."""
    with jax.enable_x64(x64):
        made = {name: sgd(make(*numbers)) for name, (make, numbers, _) in SCHEDULES.items()}
        params = {"w": jnp.ones(1)}

        def update(state: StepState) -> Any:
            return {name: optimizer.update(params, state) for name, optimizer in made.items()}

        for name, (updates, after) in jax.jit(update)(StepState(jnp.array(31, jnp.int32))).items():
            _, numbers, plain = SCHEDULES[name]
            assert float(updates["w"][0]) == pytest.approx(-plain(*numbers)(31), rel=1e-6), name
            assert int(after.step) == 32


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("period", [1, 7, 1000])
def test_restarts_up_to_a_million_steps(factor: int, period: int) -> None:
    """The restarts happen at exactly the right steps in float32."""
    begins, length = [0], period
    while begins[-1] < 1_000_000 and len(begins) < 3000:
        begins.append(begins[-1] + length)
        length *= factor
    begins.pop()
    schedule = jax.jit(jax.vmap(schedules.cosine_restarts(1.0, period, factor)))
    steps = np.unique(np.clip(np.concatenate([np.array(begins) + d for d in (-1, 0, 1)]), 0, None))
    found = np.asarray(schedule(jnp.asarray(steps)))
    assert (found[np.isin(steps, begins)] == 1).all()
    if period > 1:
        assert (found[np.isin(steps + 1, begins)] < 0.1).all()
    expected = [restarting(1.0, period, factor)(int(t)) for t in steps]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_where_each_schedule_starts_and_ends() -> None:
    assert float(schedules.cosine(0.3, 10)(0)) == np.float32(0.3)
    assert [float(schedules.cosine(0.3, 10)(t)) for t in (10, 11, 10**6)] == [0, 0, 0]
    assert [float(schedules.polynomial(1.0, 0.25, 10)(t)) for t in (0, 10, 11)] == [1, 0.25, 0.25]
    one = schedules.one_cycle(0.8, 100, rise=0.25)
    assert [float(one(t)) for t in (0, 25, 100, 101)] == pytest.approx([0.032, 0.8, 3.2e-6, 3.2e-6], rel=1e-6)
    assert max(float(one(t)) for t in range(120)) == np.float32(0.8)
    warm = schedules.warmup(schedules.cosine(1.0, 100), 10)
    assert [float(warm(t)) for t in (0, 5, 10, 110)] == [0, 0.5, 1, 0]
    step = schedules.step_decay(1.0, 0.5, 10)
    assert [float(step(t)) for t in (9, 10, 19, 20)] == [1, 0.5, 0.5, 0.25]


def test_schedules_combine_by_arithmetic() -> None:
    combined = lambda step: schedules.warmup(schedules.cosine(0.1, 900), 100)(step) / 2  # noqa: E731
    updates, _ = sgd(combined).update({"w": jnp.ones(1)}, sgd(combined).init({})._replace(step=jnp.array(50)))
    assert float(updates["w"][0]) == pytest.approx(-0.025)


def test_every_public_schedule_is_tested() -> None:
    here = {name.split(",")[0].split(" ")[0] for name in SCHEDULES} | {"Plateau", "PlateauState", "reduce_on_plateau"}
    assert set(schedules.__all__) == here


LONG = 3 * 2**31
FAR = [0, 7, 2**24 + 1, 2**31 - 1, 2**31, 2**31 + 5, LONG, 2 * LONG + 1]


def half(u: float) -> float:
    return math.sin(math.pi / 2 * u) ** 2


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (schedules.polynomial(1.0, 0.0, LONG), lambda t: 1 - min(t / LONG, 1)),
        (schedules.cosine(1.0, LONG), lambda t: half(1 - min(t / LONG, 1))),
        (schedules.step_decay(1.0, 0.5, LONG), lambda t: 0.5 ** (t // LONG)),
        (schedules.cosine_restarts(1.0, LONG), lambda t: half(1 - t % LONG / LONG)),
        (
            schedules.cosine_restarts(1.0, LONG, 2),
            lambda t: half(1 - (t / LONG if t < LONG else (t - LONG) / LONG / 2)),
        ),
        (schedules.piecewise([8, LONG], [1.0, 2.0, 3.0]), lambda t: 1.0 + (t >= 8) + (t >= LONG)),
        (schedules.warmup(schedules.polynomial(1.0, 0.0, LONG), LONG), lambda t: 1 - abs(min(t / LONG, 2) - 1)),
        (
            schedules.one_cycle(1.0, LONG, rise=0.5, start_factor=4.0, end_factor=2.0),
            lambda t: (
                0.25 + 0.75 * half(2 * t / LONG) if t < LONG / 2 else 0.125 + 0.875 * half(max(2 - 2 * t / LONG, 0))
            ),
        ),
        (schedules.exponential(1.0, 0.5, LONG), lambda t: 0.5 ** (t / LONG)),
        (schedules.inverse_time(1.0, 1 / LONG), lambda t: 1 / (1 + t / LONG)),
    ],
)
def test_more_steps_than_int32_counts(schedule: Any, expected: Any) -> None:
    """Steps in Python are of any size; those of an optimizer are int32."""
    found = [float(schedule(t)) for t in FAR] + [float(schedule(jnp.int32(t))) for t in FAR if t < 2**31]
    wanted = [expected(t) for t in [*FAR, *(t for t in FAR if t < 2**31)]]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
