"""Random numbers that are the same in every run. NumPy draws them, so no program is compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.types import Layer

Generator = np.random.Generator
Maker = Callable[[Generator], np.ndarray]
SEED = 20


def random_params(layer: Layer, x: Any) -> Any:
    """Return random parameters; none of them is 0, as biases are at the start."""
    generator = np.random.default_rng(SEED + 1)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    return jax.tree.map(lambda p: jnp.asarray(generator.standard_normal(p.shape), p.dtype), shapes)


def random_like(tree: Any, seed: int = 1) -> Any:
    """Return random arrays of the same shapes, in the default precision."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(generator.standard_normal(a.shape)), tree)


def network_params(dtype: Any) -> Any:
    """Return parameters of two layers for penalties and optimizers; one weight is exactly 0."""
    generator = np.random.default_rng(SEED)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(generator.standard_normal(shape), dtype)

    return ({"w": draw(3, 2).at[0, 0].set(0), "b": draw(2)}, {"w": draw(2, 1), "b": draw(1)})


def real(*shape: int) -> Maker:
    return lambda generator: generator.standard_normal(shape)


def probabilities(*shape: int) -> Maker:
    return lambda generator: generator.uniform(0.05, 0.95, shape)


def yes_no(*shape: int, dtype: Any) -> Maker:
    return lambda generator: generator.integers(0, 2, shape).astype(dtype)


def signs(*shape: int, dtype: Any) -> Maker:
    return lambda generator: (2 * generator.integers(0, 2, shape) - 1).astype(dtype)


def counts(*shape: int, dtype: Any) -> Maker:
    return lambda generator: generator.poisson(2.0, shape).astype(dtype)


def labels(*shape: int, classes: int, low: int = 0, dtype: Any = np.int32) -> Maker:
    return lambda generator: generator.integers(low, classes, shape).astype(dtype)


def simplex(*shape: int) -> Maker:
    return lambda generator: generator.dirichlet(np.ones(shape[-1]), shape[:-1])
