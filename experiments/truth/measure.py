"""How far the values and derivatives of a subject are from the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.truth.battery import Array, Batch
from experiments.truth.exact import Row, exact, opposite, ulps
from experiments.truth.subjects import Subject
from fnnet.backprop.activations import activation_rule
from fnnet.backprop.losses import loss_gradient
from fnnet.backprop.penalties import penalty_gradient

ALLOWANCE = 2.0  # ulps by which a derivative by hand may be worse than that of autodiff
NEIGHBOURS, DISTANCE, LUCK = 8, 1e-3, 4  # see ``excess``


class Computed(NamedTuple):
    """In float32: outputs ``(..., M)`` and their derivatives ``(..., M, D)``, by hand and by ``jax.grad``."""

    value: Any
    by_hand: Any
    autodiff: Any


class Error(NamedTuple):
    ulps: float
    at: str  # the input


class Accuracy(NamedTuple):
    """A function on its battery: the worst errors, and how many numbers are not even plausible."""

    name: str
    examples: int
    value: Error
    by_hand: Error
    autodiff: Error
    excess: Error  # of derivatives by hand over those of autodiff
    nan: int  # among values and derivatives by hand
    wrong_sign: int  # likewise: those that contradict the sign of the truth

    @property
    def ok(self) -> bool:
        return self.nan == 0 and self.wrong_sign == 0 and self.excess.ulps <= ALLOWANCE


class Example(NamedTuple):
    """An input with its neighbours, ``(1 + NEIGHBOURS, D)``, its target, and what was computed for them."""

    inputs: Array
    target: Any
    computed: Computed


def measure(subject: Subject) -> Accuracy:
    values, by_hand, autodiff, excesses = ([Error(0.0, "")] for _ in range(4))
    examples, signs, nan = 0, 0, 0
    for example in examples_of(subject):
        examples += 1
        at = shown(example.inputs[0], example.target)
        value, hand, auto = (np.ravel(array[0]).tolist() for array in example.computed)
        outputs, derivatives = truth_at(subject, example.inputs[0], example.target)
        errors = [ulps(a, b) for a, b in zip(hand, derivatives, strict=True)]
        others = [ulps(a, b) for a, b in zip(auto, derivatives, strict=True)]
        values += [Error(ulps(a, b), at) for a, b in zip(value, outputs, strict=True)]
        by_hand += [Error(error, at) for error in errors]
        autodiff += [Error(error, at) for error in others]
        excesses += [Error(excess(subject, example, *each), at) for each in enumerate(zip(errors, others, strict=True))]
        pairs = list(zip((*value, *hand), (*outputs, *derivatives), strict=True))
        signs += sum(opposite(computed, truth) for computed, truth in pairs)
        nan += sum(computed != computed for computed, _ in pairs)
    return Accuracy(subject.name, examples, worst(values), worst(by_hand), worst(autodiff), worst(excesses), nan, signs)


def worst(errors: list[Error]) -> Error:
    return max(errors, key=lambda error: error.ulps)


def excess(subject: Subject, example: Example, entry: int, errors: tuple[float, float]) -> float:
    """By how many ulps a derivative by hand is worse than that of autodiff, other than by bad luck.

    Near a root of the derivative both are rounding noise, and either may happen to be right. So where the difference
    is above the allowance, four times the worst of autodiff counts, here and at eight inputs a thousandth away.
    """
    by_hand, autodiff = errors
    if by_hand <= autodiff + ALLOWANCE:
        return 0.0 if by_hand <= autodiff else by_hand - autodiff
    for n in range(1, 1 + NEIGHBOURS):
        computed = float(np.ravel(example.computed.autodiff[n])[entry])
        autodiff = max(autodiff, ulps(computed, truth_at(subject, example.inputs[n], example.target)[1][entry]))
    return max(by_hand - LUCK * autodiff, 0.0)


def truth_at(subject: Subject, x: Array, target: Any) -> tuple[Row, Row]:
    """Outputs and derivatives, row by row, at one input."""
    if target is None:
        outputs, derivatives = subject.truth([exact(z) for z in x])
    else:
        outputs, derivatives = subject.truth([exact(z) for z in x], exact_target(target))
    return outputs, [entry for row in derivatives for entry in row]


def exact_target(target: Any) -> Any:
    return [exact(y) for y in target] if np.ndim(target) else int(target)


def examples_of(subject: Subject) -> Iterator[Example]:
    """Every batch goes through one compiled program."""
    kind = KINDS[subject.kind]
    batches = [with_neighbours(batch) for batch in subject.batches]
    flat = [Batch(x.reshape(-1, x.shape[-1]), y if y is None else y.repeat(1 + NEIGHBOURS, 0)) for x, y in batches]
    program = jax.jit(lambda batches: [kind(subject.function, *batch) for batch in batches])
    for (inputs, target), computed in zip(batches, program(flat), strict=True):
        folded = Computed(*(np.asarray(c).reshape(*inputs.shape[:2], *c.shape[1:]) for c in computed))
        for n in range(len(inputs)):
            yield Example(inputs[n], None if target is None else target[n], Computed(*(c[n] for c in folded)))


def with_neighbours(batch: Batch) -> Batch:
    """Inputs ``(N, 1 + NEIGHBOURS, D)``: each, then random ones beside it."""
    x = batch.inputs[:, None].repeat(1 + NEIGHBOURS, 1)
    steps = np.random.default_rng(0).uniform(-DISTANCE, DISTANCE, x.shape).astype(np.float32)
    steps[:, 0] = 0
    with np.errstate(over="ignore", invalid="ignore"):
        beside = np.where(x == 0, steps, x * (1 + steps))
    return Batch(np.where(np.isfinite(beside), beside, x), batch.target)


def shown(x: Array, target: Any) -> str:
    return numbers(x) if target is None else f"{numbers(x)} for {numbers(target)}"


def numbers(values: Any) -> str:
    """Each in the fewest digits that tell it from every other float32."""
    texts = [str(value).removesuffix(".0") for value in np.ravel(values)]
    return ", ".join(texts).replace("-", "−")


def activation(f: Callable[..., Any], x: Any, target: None) -> Computed:
    """The Jacobian, one pullback for each output."""
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
    """Each example is a weight of its own."""
    value, autodiff = jax.vmap(jax.value_and_grad(f))({"w": x})
    by_hand = jax.vmap(lambda params: penalty_gradient(f, params))({"w": x})
    return Computed(value[:, None], by_hand["w"][:, None], autodiff["w"][:, None])


KINDS: dict[str, Callable[..., Computed]] = {"activation": activation, "loss": loss, "penalty": penalty}
