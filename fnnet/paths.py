"""Names of the leaves of a parameter tree: ``"0.w"`` is the weight matrix of layer 0.

Penalties, weight decay, reports and the groups of an optimizer choose parameters by these names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from fnnet.types import Params

NOT_WEIGHTS = frozenset({"b", "bias", "scale", "shift"})


def path_name(path: tuple[Any, ...]) -> str:
    """Return a key path of jax as a dotted name; it is ``""`` for a tree that is a single leaf."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def is_weight(name: str) -> bool:
    """Return whether the parameter of this name is a weight, not a bias, a scale or a shift.

    Penalties and weight decay leave the latter alone. The last part of the name decides: ``"0.w"`` is a weight;
    ``"0.b"``, ``"0.b_x"`` and ``"2.scale"`` are not.
    """
    last = name.rsplit(".", 1)[-1]
    return last not in NOT_WEIGHTS and not last.startswith(("b_", "bias_"))


def map_named(function: Callable[..., Any], tree: Params, *rest: Params) -> Any:
    """Map a tree like ``jax.tree.map``, with the name of each leaf: ``function(name, leaf, *leaves)``."""
    return jax.tree_util.tree_map_with_path(lambda path, *leaves: function(path_name(path), *leaves), tree, *rest)


def named_leaves(tree: Params) -> list[tuple[str, Any]]:
    """Return ``(name, leaf)`` for every leaf, in the order of the tree."""
    return [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
