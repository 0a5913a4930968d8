"""Faults in the rules of layers; those of image layers are in ``images``.

The healthy rules are: ``Dense`` has ``dw = xᵀ dy``, ``db = Σ_n dy_n``, ``dx = dy wᵀ``; ``Dropout`` has
``dx = m ⊙ dy / (1 − rate)``; ``Flatten`` gives ``dy`` the shape of ``x``; ``GaussianNoise`` has ``dx = dy``;
``Sequential`` passes each layer's ``dx`` to the layer before it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import fnnet
from experiments.mutations.mutant import EXAMPLES, Broken, Fault, Mutant, Subject, normal
from fnnet import Dense, Dropout, Flatten, GaussianNoise, Sequential, losses
from fnnet.backprop import RULES
from fnnet.types import Array, Params

DENSE = Subject("Dense", Dense(4), normal(EXAMPLES, 5))
SQUARE = Subject("Dense, w square", Dense(16), normal(EXAMPLES, 16))
FLATTEN = Subject("Flatten", Flatten(), normal(EXAMPLES, 2, 8))
DROPOUT = Subject("Dropout", Dropout(0.3), normal(EXAMPLES, 16), train=True)
NOISE = Subject("GaussianNoise", GaussianNoise(0.5), normal(EXAMPLES, 16), train=True)
DEEP = Subject(
    "16-16-16-4, tanh",
    fnnet.Cost(fnnet.sequential(Dense(16), fnnet.tanh, Dense(16), fnnet.tanh, Dense(4)), losses.half_squared_error),
    normal(EXAMPLES, 16),
    normal(EXAMPLES, 4),
)


def after(change: Broken) -> Fault:
    """Return the fault that replaces the result of the backward pass by ``change(dparams, dx)``."""

    def fault(rule: Any) -> Any:
        return rule._replace(backward=lambda *given: change(*rule.backward(*given)))

    return fault


def dw(change: Broken) -> Fault:
    return after(lambda dparams, dx: (dparams | {"w": change(dparams["w"])}, dx))


def db(change: Broken) -> Fault:
    return after(lambda dparams, dx: (dparams | {"b": change(dparams["b"])}, dx))


def dx(change: Broken) -> Fault:
    return after(lambda dparams, dx: (dparams, change(dx)))


def backward(broken: Broken) -> Fault:
    """Return the fault that makes ``broken(layer, params, residuals, dy) -> dx`` the backward pass.

    It is for layers without parameters.
    """
    return lambda rule: rule._replace(backward=lambda *given: ({}, broken(*given)))


def remembering(change: Broken) -> Fault:
    """Return the fault that replaces the residuals of the forward pass by ``change(residuals)``."""

    def fault(rule: Any) -> Any:
        def forward(*given: Any, **options: Any) -> Any:
            y, residuals = rule.forward(*given, **options)
            return y, change(residuals)

        return rule._replace(forward=forward)

    return fault


def rule_with_dx(broken: Broken) -> Fault:
    """Return the fault that gives the rule of ``Dense`` ``dx = broken(w, dy)``."""

    def fault(rule: Any) -> Any:
        def backward(layer: Any, params: Params, x: Array, dy: Array) -> Any:
            return rule.backward(layer, params, x, dy)[0], broken(params["w"], dy)

        return rule._replace(backward=backward)

    return fault


def other_key(rule: Any) -> Any:
    """Return the rule of ``Dropout`` with a backward pass that uses the mask of another key than the forward pass."""

    def forward(layer: Dropout, params: Params, x: Array, *, key: Any, train: bool) -> tuple[Array, Any]:
        y, _ = rule.forward(layer, params, x, key=key, train=train)
        return y, layer.mask(jax.random.fold_in(jax.random.clone(key), 1), x)

    return rule._replace(forward=forward)


def chain(handed_on: Broken) -> Fault:
    """Return the fault in which layer ``i`` of a ``Sequential`` passes ``handed_on(i, dx, dy)`` to the one before."""

    def backward(layer: Sequential, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
        dparams = []
        for i, (inner, p, r) in reversed(list(enumerate(zip(layer.layers, params, residuals, strict=True)))):
            dp, dx = RULES.look_up(inner).backward(inner, p, r, dy)
            dparams.append(dp)
            dy = handed_on(i, dx, dy)
        return tuple(reversed(dparams)), dy

    return lambda rule: rule._replace(backward=backward)


def dense(name: str, fault: Fault, subject: Subject = DENSE) -> Mutant:
    return Mutant(f"dense: {name}", subject, RULES, Dense, fault)


def sequential(name: str, fault: Fault) -> Mutant:
    return Mutant(f"sequential: {name}", DEEP, RULES, Sequential, fault)


def dropout(name: str, fault: Fault) -> Mutant:
    return Mutant(f"dropout: {name}", DROPOUT, RULES, Dropout, fault)


def flatten(name: str, broken: Broken) -> Mutant:
    return Mutant(f"flatten: {name}", FLATTEN, RULES, Flatten, backward(lambda layer, params, x, dy: broken(dy)))


MUTANTS = (
    dense("dw times 0.999", dw(lambda dw: 0.999 * dw)),
    dense("dw times 0.99", dw(lambda dw: 0.99 * dw)),
    dense("sign of dw", dw(lambda dw: -dw)),
    dense("one entry of dw zero", dw(lambda dw: dw.at[2, 1].set(0))),
    dense("one entry of dw NaN", dw(lambda dw: dw.at[2, 1].set(jnp.nan))),
    dense("dw of a mean instead of a sum", dw(lambda dw: dw / EXAMPLES)),
    dense("dw of all examples but the last", remembering(lambda x: x.at[-1].set(0))),
    dense("dw transposed", dw(lambda dw: dw.T), SQUARE),
    dense("x of the batch in another order", remembering(lambda x: x[::-1])),
    dense("db times 0.9", db(lambda db: 0.9 * db)),
    dense("db zero", db(jnp.zeros_like)),
    dense("db of a mean instead of a sum", db(lambda db: db / EXAMPLES)),
    dense("db of the next neuron", db(lambda db: jnp.roll(db, 1))),
    dense("dx times 0.999", dx(lambda dx: 0.999 * dx)),
    dense("dx from w instead of its transpose", rule_with_dx(lambda w, dy: dy @ w), SQUARE),
    dense("dx is dy", rule_with_dx(lambda w, dy: dy), SQUARE),
    dense("dx of the examples in another order", dx(lambda dx: dx[::-1])),
    dropout("1 / (1 - rate) forgotten", backward(lambda layer, _, mask, dy: jnp.where(mask, dy, 0))),
    dropout("rate instead of 1 - rate", backward(lambda layer, _, mask, dy: jnp.where(mask, dy / layer.rate, 0))),
    dropout("no mask", backward(lambda layer, _, mask, dy: dy / (1 - layer.rate))),
    dropout("mask of another key", other_key),
    Mutant("gaussian noise: times 1 + stddev", NOISE, RULES, GaussianNoise, dx(lambda dx: 1.5 * dx)),
    flatten("column-major order", lambda dy: dy.reshape(EXAMPLES, 8, 2).swapaxes(1, 2)),
    flatten("examples rolled by one", lambda dy: jnp.roll(dy, 1, 0).reshape(EXAMPLES, 2, 8)),
    sequential("an activation skipped", chain(lambda i, dx, dy: dy if i == 3 else dx)),
    sequential("a weight matrix skipped", chain(lambda i, dx, dy: dy if i == 2 else dx)),
    sequential("gradient stopped half-way", chain(lambda i, dx, dy: 0 * dx if i == 2 else dx)),
    sequential("dx times 0.99 at every layer", chain(lambda i, dx, dy: 0.99 * dx)),
    sequential("db of the layer after", after(lambda dp, dx: ((dp[0] | {"b": dp[2]["b"]}, *dp[1:]), dx))),
    sequential("gradients of two layers swapped", after(lambda dp, dx: ((dp[2], dp[1], dp[0], *dp[3:]), dx))),
)
