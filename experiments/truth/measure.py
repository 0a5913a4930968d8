"""The errors of the values and derivatives of a subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.truth.battery import Array
from experiments.truth.exact import Entries, exact, opposite, units
from experiments.truth.subjects import Subject
from fnnet.backprop.activations import activation_rule
from fnnet.backprop.losses import loss_gradient
from fnnet.backprop.penalties import penalty_gradient

ALLOWANCE = 2.0  # units by which a derivative by hand may be worse than that of autodiff
LUCK = 2.0  # units: an error of autodiff below this counts as this, because roundings that cancel are luck


class Computed(NamedTuple):
    """In float32: outputs ``(..., M)`` and their derivatives ``(..., M, D)``, by hand and by ``jax.grad``."""

    value: Any
    by_hand: Any
    autodiff: Any


class Error(NamedTuple):
    """An error in units in the last place of the largest term, and the input that has it."""

    units: float
    at: str


class Accuracy(NamedTuple):
    """A function on its inputs: the worst errors, and how many numbers are NaN or have the wrong sign."""

    name: str
    examples: int
    value: Error
    by_hand: Error
    autodiff: Error
    excess: Error  # of derivatives by hand over those of autodiff
    nan: int  # among the values and the derivatives by hand
    wrong_sign: int  # among the same

    @property
    def ok(self) -> bool:
        return self.nan == 0 and self.wrong_sign == 0 and self.excess.units <= ALLOWANCE


class Example(NamedTuple):
    """An input ``(D,)``, its target, and what was computed for them."""

    input: Array
    target: Any
    computed: Computed


def measure(subject: Subject) -> Accuracy:
    values, by_hand, autodiff, excesses = ([Error(0.0, "")] for _ in range(4))
    examples, signs, nan = 0, 0, 0
    for example in examples_of(subject):
        examples += 1
        at = shown(example.input, example.target)
        value, hand, auto = (np.ravel(array).tolist() for array in example.computed)
        outputs, derivatives = truth_at(subject, example.input, example.target)
        errors = [units(a, b) for a, b in zip(hand, derivatives, strict=True)]
        others = [units(a, b) for a, b in zip(auto, derivatives, strict=True)]
        values += [Error(units(a, b), at) for a, b in zip(value, outputs, strict=True)]
        by_hand += [Error(error, at) for error in errors]
        autodiff += [Error(error, at) for error in others]
        excesses += [Error(excess(a, b), at) for a, b in zip(errors, others, strict=True)]
        pairs = list(zip((*value, *hand), (*outputs, *derivatives), strict=True))
        signs += sum(opposite(computed, truth) for computed, truth in pairs)
        nan += sum(computed != computed for computed, _ in pairs)
    return Accuracy(subject.name, examples, worst(values), worst(by_hand), worst(autodiff), worst(excesses), nan, signs)


def worst(errors: list[Error]) -> Error:
    return max(errors, key=lambda error: error.units)


def excess(by_hand: float, autodiff: float) -> float:
    """Return by how many units a derivative by hand is worse than that of autodiff, whose error may be infinite."""
    return 0.0 if by_hand <= autodiff else max(by_hand - max(autodiff, LUCK), 0.0)


def truth_at(subject: Subject, x: Array, target: Any) -> tuple[Entries, Entries]:
    """Return the outputs and the derivatives, row by row, at one input."""
    if target is None:
        outputs, derivatives = subject.truth([exact(z) for z in x])
    else:
        outputs, derivatives = subject.truth([exact(z) for z in x], exact_target(target))
    return outputs, [entry for row in derivatives for entry in row]


def exact_target(target: Any) -> Any:
    return [exact(y) for y in target] if np.ndim(target) else int(target)


def examples_of(subject: Subject) -> Iterator[Example]:
    """Yield the examples of all batches, which go through one compiled program."""
    kind = KINDS[subject.kind]
    program = jax.jit(lambda batches: [kind(subject.function, *batch) for batch in batches])
    for (inputs, target), computed in zip(subject.batches, program(subject.batches), strict=True):
        arrays = Computed(*map(np.asarray, computed))
        for n, x in enumerate(inputs):
            yield Example(x, None if target is None else target[n], Computed(*(array[n] for array in arrays)))


def shown(x: Array, target: Any) -> str:
    return numbers(x) if target is None else f"{numbers(x)} for {numbers(target)}"


def numbers(values: Any) -> str:
    """Return the numbers, each in the fewest digits that distinguish it from every other float32."""
    texts = [str(value).removesuffix(".0") for value in np.ravel(values)]
    return ", ".join(texts).replace("-", "−")


def activation(f: Callable[..., Any], x: Any, target: None) -> Computed:
    """Return the Jacobian, from one pullback for each output."""
    rule, options = activation_rule(f)
    value, pullback = jax.vjp(f, x)
    _, residuals = rule.forward(x, **options)
    outputs = value.shape[-1]
    each = jnp.broadcast_to(jnp.eye(outputs, dtype=x.dtype)[:, None], (outputs, *value.shape))
    by_hand = jax.vmap(lambda da: rule.backward(residuals, da, **options))(each)
    (autodiff,) = jax.vmap(pullback)(each)
    return Computed(value, jnp.moveaxis(by_hand, 0, 1), jnp.moveaxis(autodiff, 0, 1))


def loss(f: Callable[..., Any], x: Any, target: Any) -> Computed:
    autodiff = jax.grad(lambda prediction: f(prediction, target).sum())(x)
    return Computed(f(x, target)[:, None], loss_gradient(f, x, target)[:, None], autodiff[:, None])


def penalty(f: Callable[..., Any], x: Any, target: None) -> Computed:
    """Return what is computed for each example as a weight of its own, of one row: a vector would be a bias."""
    params = {"w": x[:, None]}
    value, autodiff = jax.vmap(jax.value_and_grad(f))(params)
    by_hand = jax.vmap(lambda params: penalty_gradient(f, params))(params)
    return Computed(value[:, None], by_hand["w"], autodiff["w"])


KINDS: dict[str, Callable[..., Computed]] = {"activation": activation, "loss": loss, "penalty": penalty}
