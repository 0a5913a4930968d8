"""Penalties on the weights: ``penalty(params) -> scalar``, added to the mean loss by ``fnnet.Cost``.

Penalties compare by value. ``where`` is a function of the name of a parameter (``"0.w"``) that chooses the parameters
which count; by default these are the weights, which are the arrays of at least two axes.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from fnnet import checks
from fnnet.activations import magnitude
from fnnet.configuration import configuration
from fnnet.paths import Where, is_chosen, named_leaves
from fnnet.types import Array, Params, Scalar


@configuration
class L1:
    """The penalty ``strength · Σ |w|``; its derivative is ``strength · sign(w)`` with ``sign(0) = 0``."""

    strength: Scalar
    where: Where = None

    def __call__(self, params: Params) -> Array:
        return sum_over_weights(self, params, lambda w: checks.in_dtype(self.strength, w.dtype) * magnitude(w).sum())


@configuration
class L2:
    """The penalty ``strength / 2 · Σ w²``; its derivative is ``strength · w``."""

    strength: Scalar
    where: Where = None

    def __call__(self, params: Params) -> Array:
        return sum_over_weights(
            self, params, lambda w: checks.in_dtype(0.5 * self.strength, w.dtype) * jnp.square(w).sum()
        )


@configuration
class ElasticNet:
    """The penalty ``l1 · Σ |w| + l2 / 2 · Σ w²`` (Zou and Hastie 2005, with their λ₁ = l1 and λ₂ = l2 / 2)."""

    l1: Scalar
    l2: Scalar
    where: Where = None

    def __call__(self, params: Params) -> Array:
        def term(w: Array) -> Array:
            l1, half_l2 = checks.in_dtype(self.l1, w.dtype), checks.in_dtype(0.5 * self.l2, w.dtype)
            return l1 * magnitude(w).sum() + half_l2 * jnp.square(w).sum()

        return sum_over_weights(self, params, term)


def l1(strength: Scalar, where: Where = None) -> L1:
    """Return the lasso ``strength · Σ |w|`` over the weights (Tibshirani 1996); ``strength`` is at least 0."""
    checks.in_range("penalties.l1", "strength", strength, 0, float("inf"), open_high=True)
    return L1(checks.python_number(strength), where)


def l2(strength: Scalar, where: Where = None) -> L2:
    """Return the ridge ``strength / 2 · Σ w²`` over the weights (Hoerl, Kennard 1970); ``strength`` is at least 0."""
    checks.in_range("penalties.l2", "strength", strength, 0, float("inf"), open_high=True)
    return L2(checks.python_number(strength), where)


def elastic_net(l1: Scalar, l2: Scalar, where: Where = None) -> ElasticNet:
    """Return the elastic net ``l1 · Σ |w| + l2 / 2 · Σ w²`` over the weights. Both strengths are at least 0."""
    checks.in_range("penalties.elastic_net", "l1", l1, 0, float("inf"), open_high=True)
    checks.in_range("penalties.elastic_net", "l2", l2, 0, float("inf"), open_high=True)
    return ElasticNet(checks.python_number(l1), checks.python_number(l2), where)


def sum_over_weights(penalty: L1 | L2 | ElasticNet, params: Params, term: Callable[[Array], Array]) -> Array:
    """Return the sum of ``term`` over the parameters that count, in the widest of their dtypes."""
    terms = [term(leaf) for name, leaf in named_leaves(params) if is_chosen(penalty.where, name, leaf)]
    checks.require(
        bool(terms),
        f"penalties: {penalty} applies to none of the parameters "
        f"{[name for name, _ in named_leaves(params)]}; change its where= or leave the penalty out",
    )
    widest = max((term.dtype for term in terms), key=lambda dtype: jnp.finfo(dtype).bits)
    return jnp.stack([term.astype(widest) for term in terms]).sum()
