"""Faults of the penalties' gradients and of the gradient of a whole cost, in networks with ReLU or sigmoid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

import fnnet
from experiments.mutations import layers
from experiments.mutations.activations import remembering_input
from experiments.mutations.mutant import ENGINES, EXAMPLES, Broken, Fault, Mutant, Subject, formula, labels, normal
from fnnet import Cost, Dense, losses, penalties
from fnnet import activations as f
from fnnet.backprop import ACTIVATION_RULES, PENALTY_GRADIENTS, RULES
from fnnet.types import Params


def network(*widths: int, activation: Any, use_bias: bool = True) -> fnnet.Sequential:
    """Return a multilayer perceptron."""
    hidden = [layer for width in widths[:-1] for layer in (Dense(width, use_bias), activation)]
    return fnnet.sequential(*hidden, Dense(widths[-1], use_bias))


def pixels(rng: Any) -> Any:
    """Draw inputs like images of handwritten digits: 28×28 numbers in [0, 1], four of five of which are 0."""
    return rng.random((EXAMPLES, 784)) * (rng.random((EXAMPLES, 784)) < 0.2)


def penalized(penalty: Any) -> Subject:
    cost = Cost(network(16, 10, activation=f.relu), losses.softmax_cross_entropy, penalty)
    return Subject(f"20-16-10, ReLU, {type(penalty).__name__}", cost, normal(EXAMPLES, 20), labels(10))


LASSO, RIDGE, ELASTIC = (
    penalized(penalty) for penalty in (penalties.l1(1e-3), penalties.l2(1e-3), penalties.elastic_net(1e-3, 1e-3))
)
DIGITS = Subject(
    "784-100-10, ReLU, L2",
    Cost(network(100, 10, activation=f.relu), losses.softmax_cross_entropy, penalties.l2(1e-4)),
    pixels,
    labels(10),
)
IGNORING = Subject(
    "20-16-10, ReLU, label 0 ignored",
    Cost(network(16, 10, activation=f.relu), losses.softmax_cross_entropy, ignore_label=0),
    normal(EXAMPLES, 20),
    labels(3),
)
VANISHING = Subject(
    "16-16-16-16-16-4, sigmoid, no biases",
    Cost(network(16, 16, 16, 16, 4, activation=f.sigmoid, use_bias=False), losses.half_squared_error),
    normal(EXAMPLES, 16),
    normal(EXAMPLES, 4),
)


def engine(change: Broken) -> Fault:
    """Return the fault of an engine that gives ``change(grads, params)`` in place of its gradient."""

    def fault(value_and_grad: Any) -> Any:
        def broken(cost: Cost) -> Any:
            def run(params: Params, batch: Any, **options: Any) -> tuple[Any, Params]:
                value, grads = value_and_grad(cost)(params, batch, **options)
                return value, change(grads, params)

            return run

        return broken

    return fault


def each(change: Broken) -> Fault:
    """Return the fault of an engine that gives ``change(g)`` for every tensor ``g`` of its gradient."""
    return engine(lambda grads, params: jax.tree.map(change, grads))


def first(**changes: Broken) -> Fault:
    """Return the fault of an engine that gives ``change(g)`` for the named tensors of the first layer's gradient."""
    return engine(
        lambda grads, params: ({name: changes.get(name, same)(g) for name, g in grads[0].items()}, *grads[1:])
    )


def same(g: Any) -> Any:
    return g


def zero_at_largest(g: Any) -> Any:
    return jnp.where(jnp.abs(g) == jnp.abs(g).max(), 0, g)


def l2_of_biases(grads: Params, params: Params) -> Params:
    return tuple(
        g | {"b": g["b"] + RIDGE.model.penalty.strength * p["b"]} if g else g
        for g, p in zip(grads, params, strict=True)
    )


def label_not_ignored(value_and_grad: Any) -> Any:
    return lambda cost: value_and_grad(replace(cost, ignore_label=None))


def of_shuffled_inputs(value_and_grad: Any) -> Any:
    """Return the engine that takes the inputs in another order than their targets."""
    return lambda cost: (
        lambda params, batch, **options: value_and_grad(cost)(params, (batch[0][::-1], batch[1]), **options)
    )


def cost(name: str, fault: Fault, subject: Subject = RIDGE) -> Mutant:
    return Mutant(f"cost: {name}", subject, ENGINES, Cost, fault)


def penalty(name: str, subject: Subject, broken: Broken) -> Mutant:
    kind = type(subject.model.penalty)
    return Mutant(f"{kind.__name__}: {name}", subject, PENALTY_GRADIENTS, kind, formula(broken))


MUTANTS = (
    penalty("sign not taken", LASSO, lambda l1, w: l1.strength * w),
    penalty("left out", LASSO, lambda l1, w: jnp.zeros_like(w)),
    penalty("left out", RIDGE, lambda l2, w: jnp.zeros_like(w)),
    penalty("without the 1/2", RIDGE, lambda l2, w: 2 * l2.strength * w),
    penalty("divided by the examples", RIDGE, lambda l2, w: l2.strength * w / EXAMPLES),
    penalty("sign", RIDGE, lambda l2, w: -l2.strength * w),
    penalty("term of l1 left out", ELASTIC, lambda elastic, w: elastic.l2 * w),
    penalty("term of l2 left out", ELASTIC, lambda elastic, w: elastic.l1 * jnp.sign(w)),
    cost("L2 of the biases too", engine(l2_of_biases)),
    cost("sum over the examples for the mean", each(lambda g: g * EXAMPLES)),
    cost("mean taken twice", each(lambda g: g / EXAMPLES)),
    cost("N - 1 for N", each(lambda g: g * EXAMPLES / (EXAMPLES - 1))),
    cost("inputs in another order than targets", of_shuffled_inputs),
    cost("label not ignored", label_not_ignored, IGNORING),
    cost("every entry clipped to 0.05", each(lambda g: jnp.clip(g, -0.05, 0.05))),
    cost("rounded to bfloat16", each(lambda g: g.astype(jnp.bfloat16).astype(g.dtype))),
    cost("last layer's gradient only", engine(lambda grads, _: (*jax.tree.map(jnp.zeros_like, grads[:-1]), grads[-1]))),
    cost("biases' gradients of the first layer missing", first(b=jnp.zeros_like)),
    cost("784-100-10: first dw times 0.999", first(w=lambda dw: 0.999 * dw), DIGITS),
    cost("784-100-10: largest entry of first dw zero", first(w=zero_at_largest), DIGITS),
    cost("784-100-10: first db times 0.9", first(b=lambda db: 0.9 * db), DIGITS),
    Mutant(
        "784-100-10: relu: mask z > -0.2",
        DIGITS,
        ACTIVATION_RULES,
        f.relu,
        remembering_input(lambda z, da: jnp.where(z > -0.2, da, 0)),
    ),
    Mutant("784-100-10: dense: sign of dw", DIGITS, RULES, Dense, layers.dw(lambda dw: -dw)),
    cost("vanishing: first dw zero", first(w=jnp.zeros_like), VANISHING),
    cost("vanishing: first dw times 0.9", first(w=lambda dw: 0.9 * dw), VANISHING),
)
