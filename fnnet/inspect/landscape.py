"""The cost over a plane through a network's parameters, and the path of a descent on it.

A plane is an origin ``θ``, a parameter tree, and ``directions``: a tree of the same structure whose leaves have one
axis more in front, of length ``K``, the number of directions ``d_1 ... d_K`` (two for a picture). Its points are
``θ + Σ_k c_k d_k``. A path is a tree with an axis of length ``T`` in front: the parameters at ``T`` times, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.optimizers.leaves import flattened, moment_dtype
from fnnet.paths import is_weight, map_named, named_leaves
from fnnet.types import Array, Params

EXACT = jax.lax.Precision.HIGHEST  # the default of some devices rounds float32 factors to 11 bits


def filter_normalized(key: Array, params: Params, where: Callable[[str], bool] = is_weight) -> Params:
    """A random direction in which every neuron's weights change by as much as they are long.

    ``d_j = ‖w_j‖ n_j / ‖n_j‖`` with ``n_j`` standard normal and ``w_j`` the weights into neuron ``j``: all axes but
    the last; of a weight with one axis, the whole vector. So pictures of networks whose weights differ in scale can be
    compared, although ReLU networks compute the same when one layer is scaled up and the next down. Parameters that
    ``where`` leaves out by their names, by default biases, scales and shifts, do not change: their direction is 0.

    Has the structure, shapes and dtypes of ``params``. Two directions are
    ``jax.vmap(filter_normalized, (0, None))(jax.random.split(key), params)``; they are nearly, not exactly, orthogonal.
    Source: Li et al. 2018, "Visualizing the loss landscape of neural nets", section 4.
    """
    keys = iter(jax.random.split(key, max(len(jax.tree.leaves(params)), 1)))

    def leaf(name: str, w: Array) -> Array:
        leaf_key = next(keys)
        if not where(name):
            return jnp.zeros_like(w)
        wide = moment_dtype(w)
        axes = tuple(range(max(w.ndim - 1, 1))) if w.ndim else ()
        noise = jax.random.normal(leaf_key, w.shape, wide)
        length, noise_length = (jnp.sqrt(jnp.square(a).sum(axes, keepdims=True)) for a in (w.astype(wide), noise))
        return (noise * (length / jnp.where(noise_length > 0, noise_length, 1))).astype(w.dtype)

    return map_named(leaf, params)


class PathDirections(NamedTuple):
    """``directions`` with ``K`` in front, orthonormal; ``explained (K,)``: the share of the path's variance in each."""

    directions: Params
    explained: Array


def path_directions(path: Params, count: int = 2) -> PathDirections:
    """The ``count`` orthonormal directions in which a path varies most: its principal components.

    With the path as a matrix ``X (T, P)``, a row for each time, and ``X − X̄ = U S Vᵀ`` without its mean: the first rows
    of ``Vᵀ``; ``explained`` is ``S_k² / Σ_i S_i²``. Signs are such that the path's first point has no negative
    coordinate when seen from its last. ``T`` must exceed ``count``. Source: Li et al. 2018, section 7.2.

    A random walk in many dimensions too has most of its variance in two components (Antognini and Sohl-Dickstein 2018):
    a high share alone does not show that the descent is simple.
    """
    place = "inspect.path_directions"
    checks.positive_integer(place, "count", count)
    leaves = jax.tree.leaves(path)
    checks.require(bool(leaves), f"{place}: path has no leaves; expected a parameter tree with a time axis in front")
    lengths = {leaf.shape[:1] for leaf in leaves}
    checks.require(
        len(lengths) == 1 and lengths != {()},
        f"{place}: the leaves of path have the first axes {sorted(lengths)}; expected one length, the number of times",
    )
    times, size = len(leaves[0]), sum(leaf[0].size for leaf in leaves)
    checks.require(
        times > count and size >= count,
        f"{place}: path has {times} points with {size} parameters; expected more than count = {count} points and at "
        f"least as many parameters: record the path more often",
    )
    rows = as_rows(path)
    _, lengths_along, components = jnp.linalg.svd(rows - rows.mean(0), full_matrices=False)
    components = components[:count]
    components = jnp.where(components @ (rows[0] - rows[-1]) < 0, -1, 1).astype(rows.dtype)[:, None] * components
    # Relative to the largest, so that the squares neither overflow nor vanish.
    largest = lengths_along[0]
    variances = jnp.square(lengths_along / jnp.where(largest > 0, largest, 1))
    explained = variances[:count] / jnp.where(largest > 0, variances.sum(), 1)
    return PathDirections(as_trees(components, path), explained)


def plane_point(origin: Params, directions: Params, coordinates: Array) -> Params:
    """``θ + Σ_k c_k d_k`` for ``coordinates = c (K,)``: parameters with the dtypes of ``origin = θ``."""
    check_directions("inspect.plane_point", origin, directions, len(coordinates))

    def leaf(p: Array, d: Array) -> Array:
        wide = moment_dtype(p)
        moved = p.astype(wide) + jnp.tensordot(coordinates.astype(wide), d.astype(wide), 1, precision=EXACT)
        return moved.astype(p.dtype)

    return jax.tree.map(leaf, origin, directions)


def project_on(params: Params, origin: Params, directions: Params) -> Array:
    """The coordinates ``c (K,)`` of the plane's point that is nearest to ``params``.

    ``c = argmin ‖params − θ − Σ_k c_k d_k‖``, from the normal equations ``D Dᵀ c = D (params − θ)`` with the directions
    as rows of ``D``: they need not be orthogonal, but linearly independent. ``vmap`` it over a path:
    ``jax.vmap(project_on, (0, None, None))(path, origin, directions)``.
    """
    place = "inspect.project_on"
    check_directions(place, origin, directions)
    shapes, expected = ({n: jnp.shape(leaf) for n, leaf in named_leaves(tree)} for tree in (params, origin))
    checks.require(shapes == expected, f"{place}: params have the shapes {shapes} but origin {expected}")
    d, (point, start) = as_rows(directions), (as_rows(jax.tree.map(lambda a: a[None], t))[0] for t in (params, origin))
    # Scaled to length 1, so that the squares of the one direction do not swamp those of the other.
    lengths = jnp.linalg.norm(d, axis=1)
    unit = d / lengths[:, None]
    products = partial(jnp.matmul, unit, precision=EXACT)
    return jnp.linalg.solve(products(unit.T), products(point - start)) / lengths


def cost_plane(
    objective: Callable[[Params], Array],
    origin: Params,
    directions: Params,
    x: Array,
    y: Array,
    *,
    batch_size: int = 32,
) -> Array:
    """``costs_ji = f(θ + x_i d_1 + y_j d_2)``, shape ``(len(y), len(x))``, as ``contour(x, y, costs)`` takes it.

    ``objective = f`` is a function of the parameters alone, such as ``lambda params: cost(params, (x, y))``. Both
    coordinates 0 give ``f(origin)``. ``batch_size`` points at a time are computed together, with the memory of so many
    networks. Under ``jax.jit`` the plane is one program.
    """
    place = "inspect.cost_plane"
    checks.positive_integer(place, "batch_size", batch_size)
    check_directions(place, origin, directions, 2)
    x, y = jnp.asarray(x), jnp.asarray(y)
    checks.require(
        x.ndim == 1 and y.ndim == 1 and x.size > 0 and y.size > 0,
        f"{place}: x has shape {x.shape} and y {y.shape}; expected the coordinates along each direction, one axis each",
    )
    points = jnp.stack(jnp.meshgrid(x, y), axis=-1).reshape(-1, 2)
    costs = jax.lax.map(lambda c: objective(plane_point(origin, directions, c)), points, batch_size=batch_size)
    checks.require(
        costs.ndim == 1,
        f"{place}: objective gave shape {costs.shape[1:]}; expected a scalar function of the parameters",
    )
    return costs.reshape(len(y), len(x))


def as_rows(tree: Params) -> Array:
    """``(K, P)``: for each entry of the leaves' first axis, all its numbers in a row, in the widest of their dtypes."""
    leaves = [leaf.reshape(len(leaf), -1).astype(moment_dtype(leaf)) for leaf in jax.tree.leaves(tree)]
    widest = max((leaf.dtype for leaf in leaves), key=lambda dtype: jnp.finfo(dtype).bits)
    return jnp.concatenate([leaf.astype(widest) for leaf in leaves], axis=1)


def as_trees(rows: Array, like: Params) -> Params:
    """The rows ``(K, P)`` as a tree like ``like``, its structure and dtypes and, after the first axis, its shapes."""
    leaves, structure = flattened(like)
    ends = [0]
    for leaf in leaves:
        ends.append(ends[-1] + leaf[0].size)
    parts = [
        rows[:, start:end].reshape(-1, *leaf.shape[1:]).astype(leaf.dtype)
        for leaf, start, end in zip(leaves, ends[:-1], ends[1:], strict=True)
    ]
    return structure.unflatten(parts)


def check_directions(place: str, origin: Params, directions: Params, count: int | None = None) -> None:
    expected = {name: jnp.shape(leaf) for name, leaf in named_leaves(origin)}
    found = {name: jnp.shape(leaf) for name, leaf in named_leaves(directions)}
    counts = {shape[:1] for shape in found.values()}
    mend = "stack directions of the parameters' own shapes on a new first axis"
    checks.require(
        found.keys() == expected.keys() and len(counts) == 1 and all(found[n][1:] == s for n, s in expected.items()),
        f"{place}: directions have the shapes {found} but the parameters {expected}; {mend}",
    )
    (number,) = counts
    checks.require(
        number != () and (count is None or number == (count,)),
        f"{place}: there are {number[0] if number else 'no'} directions; expected {count or 'at least one'}; {mend}",
    )
