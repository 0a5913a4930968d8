"""Names of the leaves of a parameter tree: ``"0.w"`` is the weight matrix of layer 0.

Penalties, weight decay, reports and the groups of an optimizer choose parameters by these names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from fnnet.types import Params

Where: TypeAlias = Callable[[str], bool] | None  # chooses parameters by name; None chooses the weights


def path_name(path: tuple[Any, ...]) -> str:
    """Return a key path of jax as a dotted name; it is ``""`` for a tree that is a single leaf."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def is_weight(parameter: Any) -> bool:
    """Return whether a parameter is a weight: an array of at least two axes, whatever its name is.

    Penalties and weight decay leave the others alone: biases, scales, shifts, and scalars such as a temperature.
    """
    return jnp.ndim(parameter) >= 2


def is_chosen(where: Where, name: str, parameter: Any) -> bool:
    """Return whether ``where`` chooses the parameter of this name. Without ``where`` the weights are chosen."""
    return is_weight(parameter) if where is None else bool(where(name))


def map_named(function: Callable[..., Any], tree: Params, *rest: Params) -> Any:
    """Map a tree like ``jax.tree.map``, with the name of each leaf: ``function(name, leaf, *leaves)``."""
    return jax.tree_util.tree_map_with_path(lambda path, *leaves: function(path_name(path), *leaves), tree, *rest)


def named_leaves(tree: Params) -> list[tuple[str, Any]]:
    """Return ``(name, leaf)`` for every leaf, in the order of the tree."""
    return [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
