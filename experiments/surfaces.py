"""Functions of two variables to descend on: two curved valleys, a saddle and an ill-conditioned quadratic."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from fnnet.types import Array

CONDITION = 100.0
TILT = math.pi / 6  # of the axes of the quadratic; without it, a rate for each coordinate undoes κ

Point = tuple[float, float]


@dataclass(frozen=True)
class Surface:
    """A function of ``(x, y)``, its lowest value and its minima, the start of the descent, and the range to draw."""

    name: str
    title: str
    formula: str
    function: Callable[[Array, Array], Array]
    minima: tuple[Point, ...]
    lowest: float
    start: Point
    x_range: Point
    y_range: Point


def rosenbrock(x: Array, y: Array) -> Array:
    """Return ``(1 − x)² + 100 (y − x²)²`` (Rosenbrock 1960, eq. 3)."""
    return jnp.square(1 - x) + 100 * jnp.square(y - jnp.square(x))


def beale(x: Array, y: Array) -> Array:
    """Return ``(1.5 − x + x y)² + (2.25 − x + x y²)² + (2.625 − x + x y³)²``.

    Source: Beale 1958; Moré et al. 1981, number 5.
    """
    return (
        jnp.square(1.5 - x + x * y) + jnp.square(2.25 - x + x * jnp.square(y)) + jnp.square(2.625 - x + x * y * y * y)
    )


def saddle(x: Array, y: Array) -> Array:
    """Return ``x² − y² + y⁴ / 4``, which has a saddle at 0 and minima at ``y = ±√2``."""
    return jnp.square(x) - jnp.square(y) + jnp.square(jnp.square(y)) / 4


def quadratic(x: Array, y: Array) -> Array:
    """Return ``½ (u² + κ v²)`` with κ = 100, where ``u, v`` are ``x − 1, y − ½`` turned by 30°.

    The minimum is not at 0, where weight decay alone would find it.
    """
    x, y = x - 1, y - 0.5
    u = math.cos(TILT) * x + math.sin(TILT) * y
    v = math.cos(TILT) * y - math.sin(TILT) * x
    return 0.5 * (jnp.square(u) + CONDITION * jnp.square(v))


SURFACES = (
    Surface(
        "rosenbrock",
        "Rosenbrock",
        "(1 − x)² + 100 (y − x²)²",
        rosenbrock,
        minima=((1.0, 1.0),),
        lowest=0.0,
        start=(-1.2, 1.0),
        x_range=(-2.0, 2.0),
        y_range=(-1.0, 3.0),
    ),
    Surface(
        "beale",
        "Beale",
        "(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
        beale,
        minima=((3.0, 0.5),),
        lowest=0.0,
        start=(1.0, 1.0),
        x_range=(-0.5, 4.5),
        y_range=(-2.0, 1.75),
    ),
    Surface(
        "saddle",
        "Saddle",
        "x² − y² + y⁴ / 4",
        saddle,
        minima=((0.0, -math.sqrt(2)), (0.0, math.sqrt(2))),
        lowest=-1.0,
        start=(-1.5, 0.01),
        x_range=(-2.0, 2.0),
        y_range=(-2.2, 2.2),
    ),
    Surface(
        "quadratic",
        "Quadratic, κ = 100",
        "½ (u² + 100 v²), (u, v) = (x − 1, y − ½) turned by 30°",
        quadratic,
        minima=((1.0, 0.5),),
        lowest=0.0,
        start=(-1.0, 1.0),
        x_range=(-1.6, 2.2),
        y_range=(-1.2, 1.8),
    ),
)


def value(index: Array, point: Array) -> Array:
    """Return the value of surface ``index`` at a point ``(2,)``. Under ``vmap``, all surfaces are one program."""
    return jax.lax.switch(index, [lambda p, f=s.function: f(p[0], p[1]) for s in SURFACES], point)
