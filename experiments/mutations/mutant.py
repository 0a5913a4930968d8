"""Subjects, which are checked, and mutants: one deliberate fault in one hand-written derivative each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import Cost, backprop
from fnnet.types import Array, DType, Layer, Params

EXAMPLES = 12
Draw = Callable[[np.random.Generator], Any]
Broken = Callable[..., Any]
Fault = Callable[[Any], Any]  # maps the healthy entry of a table to the broken one

# The gradient of a whole cost, in a table like those of fnnet.backprop, so that a mutant can replace it.
ENGINES: dict[type, Callable[..., Any]] = {Cost: backprop.value_and_grad}


class Point(NamedTuple):
    """The point at which a subject is checked: parameters, a layer's input or a cost's batch, and a key for noise."""

    params: Params
    data: Any
    key: Array | None

    @property
    def options(self) -> dict[str, Any]:
        """Return a clone of the key, so that every evaluation has the same noise, and ``train=True``."""
        return {} if self.key is None else {"key": jax.random.clone(self.key), "train": True}

    def in_dtype(self, dtype: DType) -> Point:
        def cast(leaf: Any) -> Array:
            return jnp.asarray(leaf, dtype if np.issubdtype(np.asarray(leaf).dtype, np.floating) else None)

        return Point(jax.tree.map(cast, self.params), jax.tree.map(cast, self.data), self.key)


@dataclass(frozen=True)
class Subject:
    """A layer, or a cost if there is a ``target``, and the functions that draw its data.

    ``wrt`` names what is differentiated with respect to; it is empty for what ``check_gradients`` does by itself.
    """

    name: str
    model: Any
    x: Draw
    target: Draw | None = None
    weights: Draw | None = None
    train: bool = False
    wrt: tuple[str, ...] = ()

    def at(self, seed: int) -> Point:
        """Return a random point in float64. Biases are random too, because biases of 0 would hide some faults."""
        rng = np.random.default_rng(seed)
        x = self.x(rng)
        cost = getattr(self.model, "cost", self.model)
        layer: Layer = cost.model if isinstance(cost, Cost) else cost
        kind = jnp.int32 if np.issubdtype(x.dtype, np.integer) else jnp.float32
        shapes = jax.eval_shape(layer.init, jax.random.key(0), jax.ShapeDtypeStruct(x.shape, kind))
        params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape) / np.sqrt(leaf.shape[0]), shapes)
        key = jax.random.key(seed) if self.train else None
        others = tuple(draw(rng) for draw in (self.target, self.weights) if draw is not None)
        return Point(params, (x, *others) if others else x, key)


@dataclass(frozen=True)
class Mutant:
    """A named fault. While it is ``applied``, ``table[entry]`` is ``fault(healthy entry)``."""

    name: str
    subject: Subject
    table: dict[Any, Any]
    entry: Any
    fault: Fault

    @contextmanager
    def applied(self) -> Iterator[None]:
        healthy = self.table[self.entry]
        self.table[self.entry] = self.fault(healthy)
        try:
            yield
        finally:
            self.table[self.entry] = healthy


def formula(broken: Broken) -> Fault:
    """Return the fault that replaces the whole entry by ``broken``."""
    return lambda healthy: broken


# Cached, so that subjects with the same draws are equal.
@cache
def normal(*shape: int, scale: float = 1.0) -> Draw:
    return lambda rng: scale * rng.standard_normal(shape)


@cache
def labels(classes: int) -> Draw:
    return lambda rng: rng.integers(0, classes, EXAMPLES)
