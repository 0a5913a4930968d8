"""Transforms of updates, to be chained before or after an algorithm."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from fnnet.checks import require
from fnnet.optimizers.base import Optimizer
from fnnet.paths import is_weight, map_named, named_leaves
from fnnet.types import Array, Params


def project(projection: Callable[[Array], Array], where: Callable[[str], bool] = is_weight) -> Optimizer:
    """Projected gradient descent: ``u ← P(θ + u) − θ``, so that the updated ``θ`` is in the set that P projects on.

    Last in a chain: ``chain(sgd(0.1), project(projections.non_negative))``. ``where`` chooses the parameters by their
    names, by default the weights. Adding the update to ``θ`` rounds once more, so the constraint holds to one rounding.
    Source: Goldstein 1964; Levitin and Polyak 1966.
    """

    def init(params: Params) -> tuple[()]:
        require(
            any(where(name) for name, _ in named_leaves(params)),
            f"optimizers.project: where= chooses none of the parameters {[name for name, _ in named_leaves(params)]}",
        )
        return ()

    def update(grads: Params, state: tuple[()], params: Params | None = None) -> tuple[Params, tuple[()]]:
        if params is None:
            raise ValueError("optimizers.project: params is None; pass update(grads, state, params)")

        def leaf(name: str, update: Array, p: Array) -> Array:
            return (
                jnp.asarray(projection(p + update.astype(p.dtype)) - p).astype(update.dtype) if where(name) else update
            )

        return map_named(leaf, grads, params), state

    return Optimizer(init, update)
