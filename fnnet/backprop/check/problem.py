"""One form for all that is checked: a scalar function of a tree of variables, and a gradient to test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.backprop.cost import input_gradient, value_and_grad
from fnnet.backprop.rule import RULES, vjp
from fnnet.checks import is_float
from fnnet.cost import Cost
from fnnet.paths import named_leaves
from fnnet.types import Array, DType, Layer, Params

Named = list[tuple[str, Any]]
OF_BATCH = ("x", "target", "weights")  # the names of a batch's arrays


@dataclass(frozen=True)
class Problem:
    """A subject at one point, differentiated with respect to what ``wrt`` names.

    A tuple or list as ``data`` holds the arrays of a batch; anything else is ``x``. ``cotangent`` is a random gradient
    with respect to an output that is not a scalar. A cotangent of ones would miss errors that sum to zero, such as
    those of a softmax.
    """

    subject: Any
    engine: Callable[..., Any] | None  # as jax.value_and_grad; None: the subject's own rule
    wrt: tuple[str, ...]
    params: Params
    data: Any
    key: Array | None
    train: bool
    cotangent: Any

    @property
    def is_layer(self) -> bool:
        return not isinstance(self.subject, Cost) and isinstance(self.subject, Layer)

    @property
    def by_rule(self) -> tuple[str, ...]:
        """The names in ``wrt`` that have a gradient other than autodiff's own, which runs a ``custom_vjp`` as it is."""
        if self.engine is not None:
            known: tuple[str, ...] = ("params",)
        elif isinstance(self.subject, Cost) or (self.is_layer and type(self.subject) in RULES):
            known = ("params", "x")
        else:
            known = ()
        return tuple(name for name in self.wrt if name in known)

    @property
    def variables(self) -> tuple[Any, ...]:
        """The values of what ``wrt`` names."""
        return tuple(self.params if name == "params" else array_of(self.data, name) for name in self.wrt)

    def at(self, variables: Any) -> Problem:
        """Return the same problem at other values of the variables."""
        values = dict(zip(self.wrt, variables, strict=True))
        params, data = values.pop("params", self.params), self.data
        if is_batch(data):
            named = zip_longest(OF_BATCH[: len(data)], data)
            data = type(data)(values.get(name, array) for name, array in named)
        elif values:
            data = values["x"]
        return replace(self, params=params, data=data)

    def in_dtype(self, dtype: DType) -> Problem:
        """Return the same problem with every floating-point number in ``dtype``."""
        cast = partial(as_dtype, dtype=dtype)
        return replace(self, params=cast(self.params), data=cast(self.data), cotangent=cast(self.cotangent))

    def by_hand(self) -> Named:
        """Return ``(name, tensor)`` of the value and of the gradient under test, which is autodiff's without a rule."""
        if not self.by_rule:
            return self.by_autodiff()
        gradients: dict[str, Any] = {}
        if self.is_layer:
            value, pullback = vjp(self.subject, self.params, self.data, **self.random)
            gradients["params"], gradients["x"] = pullback(self.cotangent)
        else:
            engine = self.engine or value_and_grad
            value, gradients["params"] = engine(self.subject)(self.params, self.data, **self.options)
            if "x" in self.by_rule:
                gradients["x"] = input_gradient(self.subject, self.params, self.data, **self.options)
        rest = tuple(name for name in self.wrt if name not in self.by_rule)
        if rest:
            gradients |= zip(rest, replace(self, wrt=rest).gradient_by_autodiff()[1], strict=True)
        return self.named(value, [gradients[name] for name in self.wrt])

    def by_autodiff(self) -> Named:
        return self.named(*self.gradient_by_autodiff())

    def gradient_by_autodiff(self) -> tuple[Any, Any]:
        if self.is_layer:
            y, pullback = jax.vjp(lambda variables: self.at(variables).output(), self.variables)
            return y, pullback(self.cotangent)[0]
        return jax.value_and_grad(lambda variables: self.at(variables).scalar())(self.variables)

    def output(self) -> Array:
        if self.is_layer:
            return self.subject.apply(self.params, self.data, **self.random)
        return self.subject(self.params, self.data, **self.options)

    def scalar(self) -> Array:
        y = self.output()
        return y if self.cotangent is None else jnp.vdot(self.cotangent, y)

    @property
    def options(self) -> dict[str, Any]:
        return self.random if isinstance(self.subject, Cost) else {}

    @property
    def random(self) -> dict[str, Any]:
        """The options that draw the same random numbers in every evaluation. The key is cloned, to be used again."""
        return {"key": None if self.key is None else jax.random.clone(self.key), "train": self.train}

    def named(self, value: Any, gradients: Any) -> Named:
        return [("y" if self.is_layer else "value", value), *self.variable_names(gradients)]

    def variable_names(self, variables: Any) -> Named:
        """Return ``(name, leaf)`` for every leaf; those of the parameters have their own names."""
        return [
            (leaf_name if name == "params" else ".".join(filter(None, (name, leaf_name))), leaf)
            for name, tree in zip(self.wrt, variables, strict=True)
            for leaf_name, leaf in (name_params(tree) if name == "params" else named_leaves(tree))
        ]


def array_of(data: Any, name: str) -> Any:
    """Return ``x``, the target or the weights of the data."""
    return data[OF_BATCH.index(name)] if is_batch(data) else data


def is_batch(data: Any) -> bool:
    return type(data) in (tuple, list)


def name_params(params: Params) -> Named:
    return [(name or "params", leaf) for name, leaf in named_leaves(params)]


def make_problem(
    subject: Any,
    engine: Any,
    wrt: Sequence[str] | None,
    params: Params,
    data: Any,
    key: Array | None,
    train: bool,
    seed: int,
) -> Problem:
    """Return the problem in float64. Call it within ``jax.enable_x64``."""
    params, data = as_dtype(params, jnp.float64), as_dtype(data, jnp.float64)
    problem = Problem(subject, engine, (), params, data, key, train, None)
    if wrt is None:
        wrt = ("params", "x") if problem.is_layer and is_float(data) else ("params",)
    problem = replace(problem, wrt=checked_names(wrt, data))
    y = jax.eval_shape(problem.output)
    if y.shape == () and not problem.is_layer:
        return problem
    if not problem.is_layer and engine is not None:
        raise ValueError(
            f"check_gradients: the function gives shape {y.shape}; with value_and_grad= it must give a scalar"
        )
    cotangent = jnp.asarray(own_rng(seed, "cotangent").standard_normal(y.shape))
    return replace(problem, cotangent=cotangent)


def checked_names(wrt: Any, data: Any) -> tuple[str, ...]:
    """Return the names in the order of the rows; raise for one that there is not, or that has no gradient."""
    known = ("params", *(OF_BATCH[: len(data)] if is_batch(data) else OF_BATCH[:1]))
    if isinstance(wrt, str) or not wrt or not set(wrt) <= set(known):
        raise ValueError(f"check_gradients: wrt is {wrt!r}; expected a tuple of some of {known}, as in wrt={known[:2]}")
    for name in (name for name in known[1:] if name in wrt):
        for leaf in jax.tree.leaves(array_of(data, name)):
            if not is_float(leaf):
                raise TypeError(
                    f"check_gradients: {name} has dtype {leaf.dtype}, which has no gradient; "
                    f"leave it out of wrt, or give floating-point numbers"
                )
    return tuple(name for name in known if name in wrt)


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
