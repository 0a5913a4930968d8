"""Three checkers; ``checker(subject, point) -> bool`` returns whether it finds the hand-written gradient wrong.

All of them judge the same gradient at the same point. For a cost this is the gradient with respect to the parameters,
or to what the subject's ``wrt`` names. For a layer it is the gradient with respect to the parameters and to ``x``,
pulled back from a random cotangent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

import fnnet
from experiments.mutations.mutant import ENGINES, Point, Subject
from fnnet import Cost, backprop
from fnnet.backprop.cost import input_gradient
from fnnet.types import Array

Checker = Callable[[Subject, Point], bool]
STEP, THRESHOLD, COORDINATES = 1e-5, 1e-4, 10
NAMES = ("params", "x", "target", "weights")


def by_fnnet(subject: Subject, point: Point) -> bool:
    """Return the verdict of ``fnnet.check_gradients`` with its defaults, in float64."""
    engine = ENGINES[Cost] if isinstance(subject.model, Cost) and not subject.wrt else None
    report = fnnet.check_gradients(
        subject.model, point.params, point.data, value_and_grad=engine, wrt=subject.wrt or None, **point.options
    )
    return not report.ok


def by_jax(subject: Subject, point: Point) -> bool:
    """Return the verdict of ``jax.test_util.check_grads`` with its defaults: one random direction, in float32.

    It judges the derivative that autodiff takes of a function; here the function has the hand-written gradient as its
    ``jax.custom_vjp``.
    """
    point = point.in_dtype(jnp.float32)

    @jax.custom_vjp
    def function(variables: Any) -> Array:
        return value(subject, variables, point)

    function.defvjp(
        lambda variables: (function(variables), variables),
        lambda variables, dy: (pullback(subject, variables, point, dy),),
    )
    try:
        check_grads(function, (variables_of(subject, point),), order=1, modes=["rev"])
    except AssertionError:
        return True
    return False


def by_cs231n(subject: Subject, point: Point) -> bool:
    """Return the verdict of central differences as in the exercises of Stanford's CS231n (``grad_check_sparse``).

    At 10 random entries of every tensor, drawn with replacement, ``n = (f(v + h) − f(v − h)) / 2h`` with ``h = 1e-5``
    is compared with the gradient's entry ``a``, in float64. The gradient is wrong if a relative error
    ``|a − n| / max(|a|, |n|)`` is above 1e-4, the limit that the course's notes accept for functions with kinks. Equal
    numbers have no error, even if both are 0. Kinks and rounding are not treated in any other way. If the output is not
    a scalar, ``f`` is its product with a random array.
    """
    with jax.enable_x64(True):
        point = point.in_dtype(jnp.float64)
        variables = variables_of(subject, point)
        rng = np.random.default_rng([*b"cs231n"])  # independent of the numbers that the data are drawn from
        y = value(subject, variables, point)
        cotangent = jnp.asarray(rng.standard_normal(y.shape) if y.shape else 1.0)
        leaves, structure = jax.tree.flatten(variables)
        gradient = jax.tree.leaves(pullback(subject, variables, point, cotangent))

        def at(index: int, entry: Any, step: float) -> float:
            tensor = np.array(leaves[index])
            tensor[entry] += step
            moved = jax.tree.unflatten(structure, [*leaves[:index], tensor, *leaves[index + 1 :]])
            return float(scalar(subject, moved, point, cotangent))

        for index, tensor in enumerate(map(np.asarray, gradient)):
            for _ in range(COORDINATES):
                entry = tuple(int(rng.integers(n)) for n in tensor.shape)
                a, n = float(tensor[entry]), (at(index, entry, STEP) - at(index, entry, -STEP)) / (2 * STEP)
                if a != n and not abs(a - n) / max(abs(a), abs(n)) <= THRESHOLD:
                    return True
    return False


def variables_of(subject: Subject, point: Point) -> Any:
    """Return the variables with respect to which the subject is differentiated."""
    if subject.wrt:
        named = dict(zip(NAMES, (point.params, *point.data), strict=False))
        return tuple(named[name] for name in subject.wrt)
    return point.params if isinstance(subject.model, Cost) else (point.params, point.data)


def value(subject: Subject, variables: Any, point: Point) -> Array:
    """Return the subject's output for the given values of its variables."""
    variables = jax.tree.map(jnp.asarray, variables)
    if subject.wrt:
        named = dict(zip(NAMES, (point.params, *point.data), strict=False))
        params, *batch = (named | dict(zip(subject.wrt, variables, strict=True))).values()
        return subject.model(params, tuple(batch))
    if isinstance(subject.model, Cost):
        return subject.model(variables, point.data, **point.options)
    params, x = variables
    return subject.model.apply(params, x, **point.options)


@partial(jax.jit, static_argnums=0)
def scalar(subject: Subject, variables: Any, point: Point, cotangent: Array) -> Array:
    return jnp.vdot(cotangent, value(subject, variables, point))


def pullback(subject: Subject, variables: Any, point: Point, dy: Array) -> Any:
    """Return the hand-written gradient with respect to the variables, given ``dy`` with respect to the output."""
    if subject.wrt and isinstance(subject.model, Cost):
        named = dict(zip(subject.wrt, variables, strict=True))
        params, batch = named.get("params", point.params), (named.get("x", point.data[0]), *point.data[1:])
        grads = {"x": input_gradient(subject.model, params, batch)}
        if "params" in named:
            grads["params"] = ENGINES[Cost](subject.model)(params, batch)[1]
        return jax.tree.map(lambda g: dy * g, tuple(grads[name] for name in subject.wrt))
    if subject.wrt:  # a function with its own derivative
        return jax.vjp(lambda variables: value(subject, variables, point), variables)[1](jnp.asarray(dy))[0]
    if isinstance(subject.model, Cost):
        _, grads = ENGINES[Cost](subject.model)(variables, point.data, **point.options)
        return jax.tree.map(lambda g: dy * g, grads)
    params, x = variables
    return backprop.vjp(subject.model, params, x, **point.options)[1](jnp.asarray(dy))  # check_grads gives NumPy's


CHECKERS: dict[str, Checker] = {
    "fnnet.check_gradients": by_fnnet,
    "jax.test_util.check_grads": by_jax,
    "CS231n": by_cs231n,
}
