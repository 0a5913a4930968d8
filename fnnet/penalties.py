"""Penalties on the weights: ``penalty(params) -> scalar``, added to the mean loss by ``fnnet.Cost``.

Each is a value that compares by its numbers. ``where`` chooses the parameters that count by their names (``"0.w"``);
by default the weights and not the biases.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from fnnet import checks
from fnnet.activations import magnitude
from fnnet.configuration import configuration
from fnnet.paths import is_weight, named_leaves
from fnnet.types import Array, Params, Scalar


@configuration
class L1:
    """``strength · Σ |w|``, with derivative ``strength · sign(w)``, ``sign(0) = 0``."""

    strength: Scalar
    where: Callable[[str], bool] = is_weight

    def __call__(self, params: Params) -> Array:
        return sum_over_weights(self, params, lambda w: self.strength * magnitude(w).sum())


@configuration
class L2:
    """``strength / 2 · Σ w²``, with derivative ``strength · w``."""

    strength: Scalar
    where: Callable[[str], bool] = is_weight

    def __call__(self, params: Params) -> Array:
        return sum_over_weights(self, params, lambda w: 0.5 * self.strength * jnp.square(w).sum())


@configuration
class ElasticNet:
    """``l1 · Σ |w| + l2 / 2 · Σ w²`` (Zou and Hastie 2005, with their λ₁ = l1 and λ₂ = l2 / 2)."""

    l1: Scalar
    l2: Scalar
    where: Callable[[str], bool] = is_weight

    def __call__(self, params: Params) -> Array:
        return sum_over_weights(
            self, params, lambda w: self.l1 * magnitude(w).sum() + 0.5 * self.l2 * jnp.square(w).sum()
        )


def l1(strength: Scalar, where: Callable[[str], bool] = is_weight) -> L1:
    """Lasso, ``strength · Σ |w|`` over the weights (Tibshirani 1996). ``strength`` is at least 0."""
    checks.in_range("penalties.l1", "strength", strength, 0, float("inf"), open_high=True)
    return L1(plain(strength), where)


def l2(strength: Scalar, where: Callable[[str], bool] = is_weight) -> L2:
    """Ridge, ``strength / 2 · Σ w²`` over the weights (Hoerl and Kennard 1970). ``strength`` is at least 0."""
    checks.in_range("penalties.l2", "strength", strength, 0, float("inf"), open_high=True)
    return L2(plain(strength), where)


def elastic_net(l1: Scalar, l2: Scalar, where: Callable[[str], bool] = is_weight) -> ElasticNet:
    """``l1 · Σ |w| + l2 / 2 · Σ w²`` over the weights. Both strengths are at least 0."""
    checks.in_range("penalties.elastic_net", "l1", l1, 0, float("inf"), open_high=True)
    checks.in_range("penalties.elastic_net", "l2", l2, 0, float("inf"), open_high=True)
    return ElasticNet(plain(l1), plain(l2), where)


def plain(strength: Scalar) -> Scalar:
    """A NumPy number as Python's, which jax does not take for a strongly typed array."""
    return float(strength) if isinstance(strength, (int, float)) else strength


def sum_over_weights(penalty: L1 | L2 | ElasticNet, params: Params, term: Callable[[Array], Array]) -> Array:
    terms = [term(leaf) for name, leaf in named_leaves(params) if penalty.where(name)]
    checks.require(
        bool(terms),
        f"penalties: {penalty} applies to none of the parameters "
        f"{[name for name, _ in named_leaves(params)]}; change its where= or leave the penalty out",
    )
    widest = max((term.dtype for term in terms), key=lambda dtype: jnp.finfo(dtype).bits)
    return jnp.stack([term.astype(widest) for term in terms]).sum()
