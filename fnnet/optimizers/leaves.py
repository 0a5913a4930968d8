"""What every algorithm does with the leaves of its trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fnnet.checks import at_least_float32, dtype_of, is_float, require
from fnnet.paths import map_named, named_leaves
from fnnet.types import Array, DType, Params


def moment_dtype(leaf: Any) -> DType:
    """The dtype of a leaf's moments: its own, but at least float32.

    In bfloat16 a factor of 0.999 rounds to 1 and a moment would never decay.
    """
    return at_least_float32(leaf)


def full_moments(params: Params, value: float) -> Params:
    """A new tree of one number with the shapes and shardings of ``params`` in ``moment_dtype``.

    Call it once for each moment.
    """
    for name, p in named_leaves(params):
        if not is_float(p):
            raise TypeError(
                f"optimizers: parameter {name!r} has dtype {dtype_of(p)}; expected floating point: convert it with "
                f".astype, or keep what is not trained out of the parameters"
            )
    return jax.tree.map(lambda p: jnp.full_like(p, value, dtype=moment_dtype(p)), params)


def zero_moments(params: Params) -> Params:
    return full_moments(params, 0.0)


def zero_step() -> Array:
    return jnp.zeros((), jnp.int32)


def map_leaves(
    place: str,
    function: Callable[..., tuple[Any, ...]],
    grads: Params,
    *moments: Params,
    given: tuple[Params, ...] = (),
) -> Any:
    """``function(g, *moments, *given) -> (update, *moments)`` over the leaves, as a tree for each of the results.

    ``moments`` and ``given`` must have the structure and shapes of the gradients; a tree of Python booleans is a mask
    and has no shapes.
    """
    check_same_trees(place, grads, *moments, *given)
    leaves, structure = flattened(grads)
    columns = [structure.flatten_up_to(tree) for tree in (*moments, *given)]
    rows = [function(*row) for row in zip(leaves, *columns, strict=True)]
    # Not zip(*rows), which gives nothing for a tree without leaves.
    return tuple(structure.unflatten([row[i] for row in rows]) for i in range(1 + len(moments)))


def flattened(tree: Params) -> tuple[list[Any], Any]:
    """``jax.tree.flatten``, whose structure has no type that a checker knows."""
    leaves, structure = jax.tree.flatten(tree)
    return leaves, structure


def check_same_trees(place: str, grads: Params, *trees: Params) -> None:
    expected = {name: jnp.shape(leaf) for name, leaf in named_leaves(grads)}
    for tree in trees:
        found = {name: None if isinstance(leaf, bool) else jnp.shape(leaf) for name, leaf in named_leaves(tree)}
        if found.keys() != expected.keys():
            raise ValueError(
                f"{place}: the gradients have {brief_names(expected)} but the state or the parameters have "
                f"{brief_names(found)}; call init(params) with the parameters that the gradients are of"
            )
        for name, shape in expected.items():
            require(
                found[name] in (None, shape),
                f"{place}: the gradient {name!r} has shape {shape} but the state or the parameter {found[name]}; "
                f"call init(params) with the parameters that the gradients are of",
            )


def brief_names(names: Any) -> str:
    shown = list(names)
    return str(shown) if len(shown) <= 8 else f"{len(shown)} leaves, {str(shown[:8])[:-1]}, ...]"


def params_given(place: str, params: Params | None) -> Params:
    if params is None:
        raise ValueError(f"{place}: params is None; pass update(grads, state, params)")
    return params


def chosen(place: str, where: Callable[[str], bool], tree: Params) -> Params:
    """A tree of Python booleans: which leaves ``where`` chooses by their names. It must choose one, if any."""
    mask = map_named(lambda name, leaf: bool(where(name)), tree)
    require(
        any(jax.tree.leaves(mask)) or not jax.tree.leaves(tree),
        f"{place}: where= chooses none of the parameters {brief_names([name for name, _ in named_leaves(tree)])}",
    )
    return mask


def norm(x: Array) -> Array:
    """``‖x‖₂`` over all entries, in at least float32; squares neither overflow nor vanish."""
    x = x.astype(moment_dtype(x))
    largest = jnp.abs(x).max(initial=0)
    scale = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    return scale * jnp.sqrt(jnp.square(x / scale).sum())


def global_norm(tree: Params) -> Array:
    """``‖(...)‖₂`` of all leaves together, in the widest dtype among them and at least float32."""
    norms = [norm(leaf) for leaf in jax.tree.leaves(tree)]
    widest = max((n.dtype for n in norms), key=lambda dtype: jnp.finfo(dtype).bits, default=jnp.float32)
    return norm(jnp.stack([n.astype(widest) for n in norms])) if norms else jnp.zeros((), widest)
