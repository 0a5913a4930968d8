"""Helpers that apply an algorithm to every leaf of a parameter tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fnnet.checks import at_least_float32, dtype_of, is_float, require
from fnnet.optimizers.base import Optimizer, zero_step
from fnnet.optimizers.hyperparameters import all_in_dtype, in_dtype, values_at
from fnnet.paths import Where, is_chosen, map_named, named_leaves
from fnnet.types import Array, DType, Hyperparameter, Params, Scalar

Choose: TypeAlias = Callable[[Params], Params]  # a tree -> booleans of the same structure, as ``chosen`` returns


def leafwise(
    caller: str,
    state_type: type,
    leaf: Callable[..., tuple[Array, ...]],
    hyperparameters: tuple[Hyperparameter, ...],
    *,
    starts: tuple[float, ...] = (0.0,),
    choose: Choose | None = None,
) -> Optimizer:
    """Return the optimizer that applies one formula to every leaf of the parameters.

    ``leaf(h, g, *moments) -> (update, *moments)`` is the formula. ``h`` are the values of the hyper-parameters at the
    step, ``g`` is the gradient, and there is a moment for each number of ``starts``, where it starts. With ``choose``,
    the parameter and whether it is chosen are two more arguments. All of them have the dtype of the moments, which is
    at least float32; the update is rounded to the dtype of the gradient. The state is ``state_type(step, *moments)``.
    """

    def init(params: Params) -> Any:
        if choose is not None:
            choose(params)
        return state_type(zero_step(), *(full_moments(params, start) for start in starts))

    def update(grads: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        step, *moments = state
        values = values_at(step, *hyperparameters)
        updates, *moments = map_moments(
            caller, leaf, lambda dtype: all_in_dtype(dtype, *values), grads, moments, params, choose
        )
        return updates, state_type(step + 1, *moments)

    return Optimizer(init, update, "algorithm")


def map_moments(
    caller: str,
    leaf: Callable[..., tuple[Array, ...]],
    coefficients: Callable[[DType], Any],
    grads: Params,
    moments: list[Params],
    params: Params | None,
    choose: Choose | None,
) -> Any:
    """Return a tree of updates and a tree for each moment, as ``leafwise`` does; ``h`` is ``coefficients(dtype)``."""

    def rounded(g: Array, *columns: Any) -> tuple[Array, ...]:
        dtype = columns[0].dtype
        wide = [column if isinstance(column, bool) else column.astype(dtype) for column in columns]
        update, *after = leaf(coefficients(dtype), g.astype(dtype), *wide)
        return update.astype(g.dtype), *after

    if choose is None:
        return map_leaves(caller, rounded, grads, *moments)
    params = params_given(caller, params)
    return map_leaves(caller, rounded, grads, *moments, given=(params, choose(params)))


def full_moments(params: Params, value: float) -> Params:
    """Return a new tree with the shapes and shardings of ``params`` in which every entry is ``value``.

    The dtypes are those of ``params``, but at least float32: a decay rate of 0.999 is 1 in bfloat16, and the moment
    would never decay. Call this function once for each moment, so that no two moments share a buffer.
    """
    for name, p in named_leaves(params):
        if not is_float(p):
            raise TypeError(
                f"optimizers: parameter {name!r} has dtype {dtype_of(p)}; expected floating point: convert it with "
                f".astype, or keep what is not trained out of the parameters"
            )
    return jax.tree.map(lambda p: jnp.full_like(p, value, dtype=at_least_float32(p)), params)


def zero_moments(params: Params) -> Params:
    return full_moments(params, 0.0)


def map_leaves(
    caller: str,
    function: Callable[..., tuple[Any, ...]],
    grads: Params,
    *moments: Params,
    given: tuple[Params, ...] = (),
) -> Any:
    """Apply ``function(g, *moments, *given) -> (update, *moments)`` to every leaf and return one tree for each result.

    ``moments`` and ``given`` must have the structure and the shapes of the gradients. A tree of Python booleans, which
    is a mask, has no shapes to check.
    """
    check_same_trees(caller, grads, *moments, *given)
    leaves, structure = flattened(grads)
    columns = [structure.flatten_up_to(tree) for tree in (*moments, *given)]
    rows = [function(*row) for row in zip(leaves, *columns, strict=True)]
    # zip(*rows) would give nothing for a tree without leaves.
    return tuple(structure.unflatten([row[i] for row in rows]) for i in range(1 + len(moments)))


def wide(tree: Params) -> Params:
    """Return a tree with leaves of at least float32, in which the optimizer inside another one computes.

    So the moments of another library's optimizer, which it keeps in the dtype of the parameters, are float32 as well.
    """
    return jax.tree.map(lambda leaf: leaf.astype(at_least_float32(leaf)), tree)


def multiplied(x: Array, factor: Scalar) -> Array:
    """Return ``factor · x``, computed in at least float32 and rounded once to the dtype of ``x``."""
    wide = at_least_float32(x)
    return jnp.asarray(in_dtype(factor, wide) * x.astype(wide)).astype(x.dtype)


def as_vector(tree: Params) -> tuple[Array, Callable[[Array], Params]]:
    """Return all entries of a tree as one vector, in the widest dtype and at least float32, and the inverse function.

    The inverse function gives every leaf its own dtype.
    """
    widest = at_least_float32(*jax.tree.leaves(tree))
    vector, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf.astype(widest), tree))

    def back(vector: Array) -> Params:
        return jax.tree.map(lambda wide, leaf: wide.astype(leaf.dtype), unravel(vector), tree)

    return vector, back


def flattened(tree: Params) -> tuple[list[Any], Any]:
    """Call ``jax.tree.flatten``, whose tree structure has no type that a type checker knows."""
    leaves, structure = jax.tree.flatten(tree)
    return leaves, structure


def check_same_trees(caller: str, grads: Params, *trees: Params) -> None:
    expected = {name: jnp.shape(leaf) for name, leaf in named_leaves(grads)}
    for tree in trees:
        found = {name: None if isinstance(leaf, bool) else jnp.shape(leaf) for name, leaf in named_leaves(tree)}
        if found.keys() != expected.keys():
            raise ValueError(
                f"{caller}: the gradients have the leaves {brief_names(expected)} but the state or the parameters have "
                f"{brief_names(found)}; call init with the parameters that the gradients belong to"
            )
        for name, shape in expected.items():
            require(
                found[name] in (None, shape),
                f"{caller}: the gradient {name!r} has shape {shape} but the state or the parameter has shape "
                f"{found[name]}; call init with the parameters that the gradients belong to",
            )


def brief_names(names: Any) -> str:
    shown = list(names)
    return str(shown) if len(shown) <= 8 else f"{len(shown)} leaves, {str(shown[:8])[:-1]}, ...]"


def params_given(caller: str, params: Params | None) -> Params:
    if params is None:
        raise ValueError(f"{caller}: params is None; pass update(grads, state, params)")
    return params


def chosen(caller: str, where: Where, tree: Params) -> Params:
    """Return a tree of Python booleans that says which leaves ``where`` chooses.

    It is an error if ``where`` chooses none of the leaves.
    """
    mask = map_named(lambda name, leaf: is_chosen(where, name, leaf), tree)
    require(
        any(jax.tree.leaves(mask)) or not jax.tree.leaves(tree),
        f"{caller}: where= chooses none of the parameters {brief_names([name for name, _ in named_leaves(tree)])}; "
        f"expected it to choose at least one (without where=, those of at least two axes are chosen)",
    )
    return mask
