"""Central differences along coordinates and random directions, and how a kink shows in them.

Along a direction ``u`` the difference quotient ``D(h) = (f(v + h u) − f(v − h u)) / 2h`` is ``g · u + O(h²)`` where
``f`` is smooth. With a kink between the two points it is a mixture of two slopes and says nothing about ``g``. A kink
shows in one of two ways: ``D`` changes with ``h``; or, if the kink is at ``v`` itself, the one-sided slopes keep their
distance as ``h`` shrinks, while the distance of a smooth function shrinks in proportion.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.backprop.check.problem import Problem
from fnnet.types import Array

STEP = 1e-5  # times the larger of 1 and the tensor's largest entry; about ε^(1/3), where rounding and h² balance
RELATIVE = 1e-5  # accepted error of a quotient, relative to the slope and to the gradient's root mean square
ROUNDING = 1e-8  # the same, relative to the value of the function: its rounding errors over h
DIRECTIONS, COORDINATES = 3, 4  # probes per tensor


class Probe(NamedTuple):
    """One difference quotient: its entry (None for a random direction), its error, and what that means."""

    entry: tuple[int, ...] | None
    difference: float
    claimed: float
    kink: bool
    wrong: bool

    @property
    def error(self) -> float:
        return abs(self.difference - self.claimed)


def probe_tensor(problem: Problem, index: int, gradient: Any, rng: np.random.Generator, worst: int) -> list[Probe]:
    """Return probes of leaf ``index`` of the variables, of entry ``worst`` too; ``gradient`` is the one to test."""
    g = np.asarray(gradient, np.float64)
    if g.size == 0:
        return []
    entries = {worst, *rng.choice(g.size, min(g.size, COORDINATES), replace=False).tolist()}
    directions: list[tuple[Any, Any]] = [(np.unravel_index(e, g.shape), unit(g, e)) for e in sorted(entries)]
    directions += [(None, unit_length(rng.standard_normal(g.shape))) for _ in range(DIRECTIONS)]
    typical = float(np.linalg.norm(g)) / np.sqrt(g.size)
    probes = []
    for entry, u in directions:
        claimed = float(np.vdot(g, u))
        at = None if entry is None else tuple(int(i) for i in entry)
        probes.append(Probe(at, *judge(problem, index, u, claimed, typical)))
    return probes


def judge(problem: Problem, index: int, u: Any, claimed: float, typical: float) -> tuple[float, float, bool, bool]:
    """Return ``(difference, claimed, kink, wrong)`` along ``u``."""
    leaf = jax.tree.leaves(problem.variables)[index]
    h = STEP * max(1.0, float(jnp.abs(leaf).max()))
    offsets = jnp.asarray([-h, -h / 4, 0, h / 4, h])
    low, low_near, middle, high_near, high = np.asarray(values_along(problem, index, jnp.asarray(u), offsets)).tolist()
    far, near = (high - low) / (2 * h), (high_near - low_near) / (h / 2)
    bend, bend_near = abs(high - 2 * middle + low) / h, abs(high_near - 2 * middle + low_near) / (h / 4)
    size = max(map(abs, (low, middle, high)))
    tolerance = RELATIVE * (abs(claimed) + typical) + ROUNDING * size
    if not np.isfinite([low, low_near, middle, high_near, high]).all():
        return near, claimed, True, False
    kink = abs(far - near) > tolerance / 2 or (bend_near > bend / 2 and bend_near > tolerance / 2)
    return near, claimed, kink, not kink and not abs(near - claimed) <= tolerance


def values_along(problem: Problem, index: int, u: Array, offsets: Array) -> Array:
    """Return ``f(v + t u)`` for every offset ``t``, where ``u`` is a direction of leaf ``index`` of the variables."""
    p = problem
    engine_free = Static((p.subject, p.train, p.wrt))
    return evaluate_along(engine_free, index, p.params, p.data, p.key, p.cotangent, u, offsets)


@partial(jax.jit, static_argnums=(0, 1))
def evaluate_along(
    static: Static, index: int, params: Any, data: Any, key: Any, cotangent: Any, u: Array, offsets: Array
) -> Array:
    subject, train, wrt = static.value
    problem = Problem(subject, None, wrt, params, data, key, train, cotangent)
    leaves, structure = jax.tree.flatten(problem.variables)

    def at(t: Array) -> Array:
        moved = [leaf + t * u if i == index else leaf for i, leaf in enumerate(leaves)]
        return problem.at(jax.tree.unflatten(structure, moved)).scalar()

    return jax.lax.map(at, offsets)


class Static:
    """A static argument of ``jit``. Equal subjects share a compiled program; unhashable ones compare by identity."""

    def __init__(self, value: tuple[Any, ...]) -> None:
        self.value = value

    def __hash__(self) -> int:
        try:
            return hash(self.value)
        except TypeError:
            return id(self.value[0])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static):
            return NotImplemented
        try:
            hash(self.value)
        except TypeError:
            return self.value[0] is other.value[0] and self.value[1:] == other.value[1:]
        return self.value == other.value


def unit(g: Any, entry: int) -> Any:
    u = np.zeros(g.shape)
    u.flat[entry] = 1
    return u


def unit_length(u: Any) -> Any:
    return u / np.linalg.norm(u)
