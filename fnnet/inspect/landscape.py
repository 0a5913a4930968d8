"""The cost over a plane in the space of parameters, and the path of a descent on it.

A plane is an origin ``θ``, which is a parameter tree, and ``directions``: a tree of the same structure whose leaves
have one more axis in front, of length ``K``, the number of directions ``d_1 ... d_K`` (two for a picture). The points
of the plane are ``θ + Σ_k c_k d_k``. A path is a tree with an axis of length ``T`` in front: the parameters at ``T``
times, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.checks import at_least_float32
from fnnet.norms import norm
from fnnet.optimizers.leaves import as_vector
from fnnet.paths import Where, is_chosen, map_named, named_leaves
from fnnet.types import Array, Params

EXACT = jax.lax.Precision.HIGHEST  # some devices round float32 factors to 11 bits by default


def filter_normalized(key: Array, params: Params, where: Where = None) -> Params:
    """Return a random direction that is as long as the weights, neuron by neuron.

    ``d_j = ‖w_j‖ n_j / ‖n_j‖``  with ``n_j`` standard normal and ``w_j`` the weights into neuron ``j``: all axes but
    the last, or the whole of a weight with one axis. A ReLU network computes the same function if one layer is scaled
    up and the next one down; with these directions, pictures of networks whose weights differ in scale can be compared.
    Parameters that ``where`` does not choose by their names, by default all of fewer than two axes, have direction 0.

    The result has the structure, shapes and dtypes of ``params``. Two directions, which are nearly but not exactly
    orthogonal, are ``jax.vmap(filter_normalized, (0, None))(jax.random.split(key), params)``.

    Source: Li et al. 2018, "Visualizing the loss landscape of neural nets", section 4.
    """
    keys = iter(jax.random.split(key, max(len(jax.tree.leaves(params)), 1)))

    def leaf(name: str, w: Array) -> Array:
        leaf_key = next(keys)
        if not is_chosen(where, name, w):
            return jnp.zeros_like(w)
        noise = jax.random.normal(leaf_key, w.shape, at_least_float32(w))
        axes = tuple(range(max(w.ndim - 1, min(w.ndim, 1))))
        noise_length = norm(noise, axes)
        return (noise * (norm(w, axes) / jnp.where(noise_length > 0, noise_length, 1))).astype(w.dtype)

    return map_named(leaf, params)


class PathDirections(NamedTuple):
    """``K`` orthonormal directions, and the fraction ``(K,)`` of the path's variance that lies along each of them."""

    directions: Params
    explained: Array


def path_directions(path: Params, count: int = 2) -> PathDirections:
    """Return the ``count`` orthonormal directions in which a path varies most: its principal components.

    With the path as a matrix ``X (T, P)``, a row for each time, and ``X − X̄ = U S Vᵀ`` without its mean, they are the
    first rows of ``Vᵀ``; ``explained`` is ``S_k² / Σ_i S_i²``. The signs are such that no coordinate of the first point
    of the path, seen from the last, is negative. ``T`` must be larger than ``count``.

    A random walk in many dimensions also has most of its variance in two components (Antognini and Sohl-Dickstein
    2018): a high fraction alone does not show that a descent is simple.

    Source: Li et al. 2018, section 7.2.
    """
    caller = "inspect.path_directions"
    checks.positive_integer(caller, "count", count)
    leaves = jax.tree.leaves(path)
    checks.require(bool(leaves), f"{caller}: path has no leaves; expected a parameter tree with a time axis in front")
    first_axes = {leaf.shape[:1] for leaf in leaves}
    checks.require(
        len(first_axes) == 1 and first_axes != {()},
        f"{caller}: the leaves of path have the first axes {sorted(first_axes)}; expected one length, the number of "
        f"times",
    )
    times, size = len(leaves[0]), sum(leaf[0].size for leaf in leaves)
    checks.require(
        times > count and size >= count,
        f"{caller}: path has {times} points with {size} parameters; expected more than count = {count} points and at "
        f"least as many parameters: record the path more often",
    )
    rows = as_rows(path)
    _, values, components = jnp.linalg.svd(rows - rows.mean(0), full_matrices=False)
    components = components[:count]
    components = jnp.where(components @ (rows[0] - rows[-1]) < 0, -1, 1).astype(rows.dtype)[:, None] * components
    # Divided by the largest value, so that the squares neither overflow nor underflow.
    largest = values[0]
    variances = jnp.square(values / jnp.where(largest > 0, largest, 1))
    explained = variances[:count] / jnp.where(largest > 0, variances.sum(), 1)
    _, back = as_vector(jax.tree.map(lambda leaf: leaf[0], path))
    return PathDirections(jax.vmap(back)(components), explained)


def plane_point(origin: Params, directions: Params, coordinates: Array) -> Params:
    """Return ``θ + Σ_k c_k d_k`` for ``coordinates = c (K,)``, with the dtypes of ``origin = θ``."""
    check_directions("inspect.plane_point", origin, directions, len(coordinates))

    def leaf(p: Array, d: Array) -> Array:
        wide = at_least_float32(p)
        moved = p.astype(wide) + jnp.tensordot(coordinates.astype(wide), d.astype(wide), 1, precision=EXACT)
        return moved.astype(p.dtype)

    return jax.tree.map(leaf, origin, directions)


def project_on(params: Params, origin: Params, directions: Params) -> Array:
    """Return the coordinates ``c (K,)`` of the point of the plane that is nearest to ``params``.

    ``c = argmin ‖params − θ − Σ_k c_k d_k‖``  is computed from the normal equations ``D Dᵀ c = D (params − θ)``, with
    the directions as the rows of ``D``. The directions must be linearly independent, but not orthogonal. For a path,
    use ``jax.vmap(project_on, (0, None, None))(path, origin, directions)``.
    """
    caller = "inspect.project_on"
    check_directions(caller, origin, directions)
    shapes, expected = ({n: jnp.shape(leaf) for n, leaf in named_leaves(tree)} for tree in (params, origin))
    checks.require(shapes == expected, f"{caller}: params have the shapes {shapes} but origin has {expected}")
    d, difference = as_rows(directions), as_vector(params)[0] - as_vector(origin)[0]
    # Directions of length 1, so that the squares of one direction do not swamp those of another.
    lengths = norm(d, 1)
    products = partial(jnp.matmul, d / lengths, precision=EXACT)
    return jnp.linalg.solve(products((d / lengths).T), products(difference)) / lengths[:, 0]


def cost_plane(
    objective: Callable[[Params], Array],
    origin: Params,
    directions: Params,
    x: Array,
    y: Array,
    *,
    batch_size: int = 32,
) -> Array:
    """Return ``costs_ji = f(θ + x_i d_1 + y_j d_2)``, shape ``(len(y), len(x))``, as for ``contour(x, y, costs)``.

    ``objective = f`` is a function of the parameters alone, such as ``lambda params: cost(params, (x, y))``. Where both
    coordinates are 0, the result is ``f(origin)``. ``batch_size`` points at a time are computed together, which takes
    the memory of that many networks. Under ``jax.jit`` the plane is one program.
    """
    caller = "inspect.cost_plane"
    checks.positive_integer(caller, "batch_size", batch_size)
    check_directions(caller, origin, directions, 2)
    x, y = jnp.asarray(x), jnp.asarray(y)
    checks.require(
        x.ndim == 1 and y.ndim == 1 and x.size > 0 and y.size > 0,
        f"{caller}: x has shape {x.shape} and y has {y.shape}; expected the coordinates along each direction, with one "
        f"axis each",
    )
    points = jnp.stack(jnp.meshgrid(x, y), axis=-1).reshape(-1, 2)
    costs = jax.lax.map(lambda c: objective(plane_point(origin, directions, c)), points, batch_size=batch_size)
    checks.require(
        costs.ndim == 1,
        f"{caller}: objective gave shape {costs.shape[1:]}; expected a scalar function of the parameters",
    )
    return costs.reshape(len(y), len(x))


def as_rows(tree: Params) -> Array:
    """Return the entries along the first axis of all leaves as the rows of a matrix ``(K, P)``."""
    return jax.vmap(lambda entry: as_vector(entry)[0])(tree)


def check_directions(caller: str, origin: Params, directions: Params, count: int | None = None) -> None:
    expected = {name: jnp.shape(leaf) for name, leaf in named_leaves(origin)}
    found = {name: jnp.shape(leaf) for name, leaf in named_leaves(directions)}
    counts = {shape[:1] for shape in found.values()}
    mend = "stack directions of the parameters' own shapes on a new first axis"
    checks.require(
        found.keys() == expected.keys() and len(counts) == 1 and all(found[n][1:] == s for n, s in expected.items()),
        f"{caller}: directions have the shapes {found} but the parameters {expected}; {mend}",
    )
    (number,) = counts
    checks.require(
        number != () and (count is None or number == (count,)),
        f"{caller}: there are {number[0] if number else 'no'} directions; expected {count or 'at least one'}; {mend}",
    )
