"""Questions about all leaves of a tree at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnnet.checks import is_float
from fnnet.types import Array


def all_finite(tree: Any) -> Array:
    """Return whether no floating-point number in the tree is NaN or infinite, as a boolean array."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if is_float(leaf)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in floats] or [jnp.array(True)]).all()
