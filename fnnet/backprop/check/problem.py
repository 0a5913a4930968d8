"""One form for all that is checked: a scalar function of a tree of variables, and a gradient to test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.backprop.cost import value_and_grad
from fnnet.backprop.rule import RULES, vjp
from fnnet.checks import is_float
from fnnet.cost import Cost
from fnnet.paths import named_leaves
from fnnet.types import Array, DType, Layer, Params

Named = list[tuple[str, Any]]


@dataclass(frozen=True)
class Problem:
    """A subject at one point, differentiated with respect to ``variables``: ``params``, or ``(params, x)`` of a layer.

    ``cotangent`` is a random gradient with respect to an output that is not a scalar. A cotangent of ones would miss
    errors that sum to zero, such as those of a softmax.
    """

    subject: Any
    engine: Callable[..., Any] | None  # as jax.value_and_grad; None: the subject's own rule
    variables: Any
    data: Any
    key: Array | None
    train: bool
    cotangent: Any

    @property
    def is_layer(self) -> bool:
        return not isinstance(self.subject, Cost) and isinstance(self.subject, Layer)

    @property
    def has_hand(self) -> bool:
        """Whether there is a gradient other than autodiff's own, which runs a ``custom_vjp`` as it is."""
        if self.is_layer:
            return type(self.subject) in RULES
        return self.engine is not None or isinstance(self.subject, Cost)

    @property
    def differentiates_data(self) -> bool:
        return self.is_layer and is_float(self.data)

    def in_dtype(self, dtype: DType) -> Problem:
        """Return the same problem with every floating-point number in ``dtype``."""
        cast = partial(as_dtype, dtype=dtype)
        return replace(self, variables=cast(self.variables), data=cast(self.data), cotangent=cast(self.cotangent))

    def by_hand(self) -> Named:
        """Return ``(name, tensor)`` of the value and of the gradient under test."""
        if self.is_layer and self.has_hand:
            params, x = self.variables if self.differentiates_data else (self.variables, self.data)
            y, pullback = vjp(self.subject, params, x, **self.random)
            dparams, dx = pullback(self.cotangent)
            return self.named("y", y, (dparams, dx) if self.differentiates_data else dparams)
        if self.has_hand:
            engine = self.engine or value_and_grad
            return self.named("value", *engine(self.subject)(self.variables, self.data, **self.options))
        return self.by_autodiff()

    def by_autodiff(self) -> Named:
        if self.is_layer:
            y, pullback = jax.vjp(self.output, self.variables)
            return self.named("y", y, pullback(self.cotangent)[0])
        value, grads = jax.value_and_grad(self.scalar)(self.variables)
        return self.named("value", value, grads)

    def output(self, variables: Any) -> Array:
        """Return the output of the subject at other values of the variables."""
        if self.is_layer:
            params, x = variables if self.differentiates_data else (variables, self.data)
            return self.subject.apply(params, x, **self.random)
        return self.subject(variables, self.data, **self.options)

    def scalar(self, variables: Any) -> Array:
        y = self.output(variables)
        return y if self.cotangent is None else jnp.vdot(self.cotangent, y)

    @property
    def options(self) -> dict[str, Any]:
        return self.random if isinstance(self.subject, Cost) else {}

    @property
    def random(self) -> dict[str, Any]:
        """The options that draw the same random numbers in every evaluation. The key is cloned, to be used again."""
        return {"key": None if self.key is None else jax.random.clone(self.key), "train": self.train}

    def named(self, first: str, value: Any, gradient: Any) -> Named:
        return [(first, value), *self.variable_names(gradient)]

    def variable_names(self, tree: Any) -> Named:
        if not self.differentiates_data:
            return name_params(tree)
        return [*name_params(tree[0]), ("x", tree[1])]


def name_params(params: Params) -> Named:
    return [(name or "params", leaf) for name, leaf in named_leaves(params)]


def make_problem(
    subject: Any, engine: Any, params: Params, data: Any, key: Array | None, train: bool, seed: int
) -> Problem:
    """Return the problem in float64. Call it within ``jax.enable_x64``."""
    params, data = as_dtype(params, jnp.float64), as_dtype(data, jnp.float64)
    problem = Problem(subject, engine, params, data, key, train, None)
    if problem.differentiates_data:
        problem = replace(problem, variables=(params, data))
    y = jax.eval_shape(problem.output, problem.variables)
    if y.shape == () and not problem.is_layer:
        return problem
    if not problem.is_layer and engine is not None:
        raise ValueError(
            f"check_gradients: the function gives shape {y.shape}; with value_and_grad= it must give a scalar"
        )
    cotangent = jnp.asarray(own_rng(seed, "cotangent").standard_normal(y.shape))
    return replace(problem, cotangent=cotangent)


def own_rng(seed: int, purpose: str) -> np.random.Generator:
    """Return a generator whose stream no ``default_rng(seed)`` of the caller shares.

    With ``x`` from the same stream the cotangent could equal it; ``xᵀ dy`` is then symmetric and hides a transpose.
    """
    return np.random.default_rng([seed, *purpose.encode()])


def as_dtype(tree: Any, dtype: DType) -> Any:
    """Return the tree with floating-point leaves as arrays of ``dtype``, and other leaves as they are."""

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError("check_gradients: called inside a jax transformation; it compares numbers, call it outside")
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        values = np.asarray(leaf)
        return jnp.asarray(values.astype(dtype) if jnp.issubdtype(values.dtype, jnp.floating) else values)

    return jax.tree.map(convert, tree)
