"""Names of the leaves of a parameter tree: ``"0.w"`` is the weight matrix of layer 0.

Everything that treats parameters differently by their place (penalties, reports, groups of an optimizer) does so
through a function of this name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from fnnet.types import Params

NOT_WEIGHTS = frozenset({"b", "bias", "scale", "shift"})


def path_name(path: tuple[Any, ...]) -> str:
    """A jax key path as a dotted name, ``""`` for a tree that is a single leaf."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def is_weight(name: str) -> bool:
    """Whether a parameter multiplies its input's features: everything but biases, scales and shifts.

    Decided by the last part of the name: ``"0.w"`` is a weight; ``"0.b"``, ``"0.b_x"`` and ``"2.scale"`` are not.
    """
    last = name.rsplit(".", 1)[-1]
    return last not in NOT_WEIGHTS and not last.startswith(("b_", "bias_"))


def map_named(function: Callable[..., Any], tree: Params, *rest: Params) -> Any:
    """``jax.tree.map`` whose function also receives the leaf's name: ``function(name, leaf, *leaves)``."""
    return jax.tree_util.tree_map_with_path(lambda path, *leaves: function(path_name(path), *leaves), tree, *rest)


def named_leaves(tree: Params) -> list[tuple[str, Any]]:
    """``(name, leaf)`` for every leaf, in the tree's order."""
    return [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
