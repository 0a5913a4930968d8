"""Verdicts on the program itself: what depends on what."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from fnnet import checks
from fnnet.activations import relu
from fnnet.diagnosis.changes import Change
from fnnet.diagnosis.report import NotLookedAt, Verdict
from fnnet.diagnosis.subject import Numbers, Subject
from fnnet.diagnosis.thresholds import bound, found
from fnnet.layers import Activation, BatchNorm, Dropout, GaussianNoise
from fnnet.layers.nesting import holds
from fnnet.paths import path_name

LARGE = 10.0  # the rms of the inputs at which a map is tested a second time


def a_parameter_is_not_connected(subject: Subject) -> Verdict | None:
    """The cost does not depend on a parameter, or its derivative cannot reach it, so that it is never trained.

    A term was forgotten, or something stands in between that has no derivative: ``stop_gradient``, ``argmax``,
    ``round``, a conversion to integers.

    Statistic: the program of the gradient is read, step by step, without running it. A parameter is not connected if
    its gradient is computed from constants alone. The penalty does not count.

    Threshold: above 0 parameters. It is a theorem about this program: there are no healthy exceptions.

    When it is wrong: parameters may be frozen by ``stop_gradient`` on purpose. A parameter whose gradient is computed
    and happens to be 0 is connected: biases before a normalization, rows of an embedding that do not occur.
    """
    name, statistic = "a parameter is not connected", "number of parameters"
    lost = unconnected(subject)
    if not len(lost) > bound(name, statistic):
        return None
    return found(
        name,
        statistic,
        len(lost),
        "exact",
        f"The cost has no derivative with respect to {', '.join(lost[:5])}{' and others' if len(lost) > 5 else ''}: "
        f"it is not used, or a stop_gradient, argmax or round stands in between.",
        layer=lost[0].rpartition(".")[0],
        evidence={"parameters": lost},
    )


def unconnected(subject: Subject) -> list[str]:
    """Return the names of the parameters whose gradient depends on nothing."""
    cost, (x, y, weights) = subject.cost, subject.part(subject.rows[:2])
    leaves, structure = jax.tree_util.tree_flatten_with_path(subject.params)
    names, values = [path_name(path) for path, _ in leaves], [jnp.asarray(leaf) for _, leaf in leaves]
    floats = [i for i, value in enumerate(values) if checks.is_float(value)]

    def value(chosen: list[Any], x: Any) -> Any:
        all_leaves = list(values)
        for i, leaf in zip(floats, chosen, strict=True):
            all_leaves[i] = leaf
        params = jax.tree.unflatten(structure, all_leaves)
        return cost.mean_loss(cost.model.apply(params, x, key=subject.key), y, weights)

    program = jax.make_jaxpr(jax.grad(value))([values[i] for i in floats], x).jaxpr
    depends = depending(program, [True] * len(program.invars))
    return [names[i] for i, reached in zip(floats, depends, strict=True) if not reached]


def depending(program: Any, inputs: list[bool]) -> list[bool]:
    """Return which outputs of a program depend on the inputs that are marked. Programs inside it are read, too."""
    marked = {variable for variable, mark in zip(program.invars, inputs, strict=True) if mark}

    def is_marked(variable: Any) -> bool:
        return not isinstance(variable, core.Literal) and variable in marked

    for step in program.eqns:
        marks = list(map(is_marked, step.invars))
        outputs = inner_depending(step, marks) if any(marks) else [False] * len(step.outvars)
        marked |= {variable for variable, mark in zip(step.outvars, outputs, strict=True) if mark}
    return list(map(is_marked, program.outvars))


def inner_depending(step: Any, marks: list[bool]) -> list[bool]:
    """Return which outputs of one step depend on its marked inputs: all of them, if it is not known better."""
    sizes = len(marks), len(step.outvars)
    for inner in step.params.values() if step.primitive.name != "while" else ():
        program = getattr(inner, "jaxpr", inner)
        if not hasattr(program, "eqns") or (len(program.invars), len(program.outvars)) != sizes:
            continue
        if step.primitive.name != "scan":
            return depending(program, marks)
        first, carries = step.params["num_consts"], step.params["num_carry"]
        while True:  # what a carry depends on in one step reaches the others in the next
            outputs = depending(program, marks)
            after = [*marks[:first], *(a or b for a, b in zip(marks[first:], outputs[:carries], strict=False))]
            after += marks[first + carries :]
            if after == marks:
                return outputs
            marks = after
    return [True] * len(step.outvars)


def the_network_is_an_affine_map(subject: Subject) -> Verdict | None:
    """Several layers with weights, and no nonlinearity between them: together they are one matrix and one bias.

    Statistic: ``rms(f((x + x')/2) − (f(x) + f(x'))/2) / rms(f(x) − f(x'))`` over pairs of examples, with the inputs as
    they are, and enlarged to an rms of 10 with every second one negated, because ReLU without biases is linear on
    either side of 0; the larger of both. ``f`` is the network before its last activation, after 10 steps of gradient
    descent, so that layers that start at 0 do not hide the others.

    Threshold: below 1e-5 with at least two layers of weights. Affine networks have 1e-7, by rounding; ReLU has 0.2,
    tanh of inputs of 0.01 has 8e-5, and more with large inputs.

    When it is wrong: a linear network of several layers may be meant, as a factorization. Models of one layer are not
    looked at.
    """
    name, statistic = "the network is an affine map", "rms(f((x + x')/2) − (f(x) + f(x'))/2) / rms(f(x) − f(x'))"
    if len(subject.weight_layers) < 2:
        return None
    if not checks.is_float(subject.x):
        raise NotLookedAt("the inputs are integers, which have no mean")
    x = np.asarray(subject.small_x)
    if len(x) < 2 or rms(x - x[::-1]) == 0:
        raise NotLookedAt("the examples are all alike")
    signs = (-1.0) ** np.arange(len(x)).reshape(-1, *[1] * (x.ndim - 1))
    bends = [bend(subject, x), bend(subject, x * np.asarray(signs * LARGE / rms(x), x.dtype))]
    if any(np.isnan(bends)):
        raise NotLookedAt("the output does not depend on the input")
    value = max(bends)
    if not value < bound(name, statistic):
        return None
    return found(
        name,
        statistic,
        value,
        "exact",
        f"The {len(subject.weight_layers)} layers with weights are together one affine map, because no nonlinearity "
        f"stands between them: add an activation after each hidden layer.",
        layer=subject.weight_layers[0],
        remedy=Change(f"model.{subject.weight_layers[1]}", "insert", Activation(relu)),
    )


def bend(subject: Subject, x: Numbers) -> float:
    """Return how far the network is from an affine map between pairs of examples; NaN if they have equal outputs."""
    other = np.roll(x, 1, 0)
    at, mid = (np.asarray(subject.forward(a).body, np.float64) for a in (x, (x + other) / np.asarray(2, x.dtype)))
    at_other = np.roll(at, 1, 0)
    change = rms(at - at_other)
    return rms(mid - (at + at_other) / 2) / change if change > 1e-6 * rms(at) else float("nan")


def rms(a: Any) -> float:
    return float(np.sqrt(np.square(np.asarray(a, np.float64)).mean()))


def examples_of_a_batch_mix(subject: Subject) -> Verdict | None:
    """The output for one example depends on the other examples of the batch.

    A reshape, a transposition or a softmax ran over the batch axis. The network then learns from its neighbours in the
    batch, which are others at every step and missing in use.

    Statistic: the largest change of the outputs for all other examples when one example is changed, for three of them.

    Threshold: above 0. Nothing else changes, so the outputs stay the same bit for bit.

    When it is wrong: ``BatchNorm`` mixes examples on purpose, and models that hold it are not looked at. In a layer
    that is not fnnet's there may be such a normalization; there it is suspected.
    """
    name, statistic = "examples of a batch mix", "largest change of the outputs for other examples"
    if holds(subject.cost.model, BatchNorm):
        raise NotLookedAt("the model holds a BatchNorm, which mixes examples on purpose")
    x = subject.small_x
    if len(x) < 2:
        raise NotLookedAt("there are fewer than two examples")
    before, largest = subject.forward(x).prediction, 0.0
    for i in {0, len(x) // 2, len(x) - 1}:
        changed = x.copy()
        changed[i] = x[i] * 2 + np.asarray(1, x.dtype) if checks.is_float(x) else x[i - 1]
        after = np.delete(subject.forward(changed).prediction, i, 0)
        largest = max(largest, float(np.abs(after - np.delete(before, i, 0)).max()))
    if not largest > bound(name, statistic):
        return None
    return found(
        name,
        statistic,
        largest,
        "suspected" if subject.closed else "exact",
        "The output for an example depends on the other examples of its batch: look for a reshape, a transposition or "
        "a softmax over the first axis.",
    )


def a_step_sees_the_future(subject: Subject) -> Verdict | None:
    """The output at a step depends on later steps, although the target is the next input.

    The network then copies the answer from its input, has a loss near 0, and can generate nothing. The cause is a
    missing causal mask, a reversed direction, or a convolution that is not causal.

    Statistic: the largest change of the outputs up to step ``t`` when the inputs after step ``t`` are changed, over the
    rms of the outputs, for ``t = T/2``. Looked at only if the targets are the inputs, shifted by one step.

    Threshold: above 1e-4, which is far above rounding.

    When it is wrong: a model that sees both sides on purpose, such as one that fills gaps, has other targets.
    """
    name, statistic = "a step sees the future", "largest change of the outputs before the changed inputs"
    x, y = subject.x, subject.y
    shifted = x.ndim == 2 and x.shape == y.shape and x.shape[1] > 1 and not checks.is_float(x)
    if not (shifted and np.mean(y[:, :-1] == x[:, 1:]) > 0.99):
        raise NotLookedAt("it is asked only if the targets are the inputs, shifted by one step")
    if holds(subject.cost.model, BatchNorm):
        raise NotLookedAt("the model holds a BatchNorm, which mixes all steps")
    x = subject.small_x
    middle = x.shape[1] // 2
    changed = x.copy()
    changed[:, middle:] = np.roll(x, 1, 0)[:, middle:]
    before, after = (np.asarray(subject.forward(a).prediction, np.float64)[:, :middle] for a in (x, changed))
    change = float(np.abs(after - before).max() / max(rms(before), 1e-30))
    if not change > bound(name, statistic):
        return None
    return found(
        name,
        statistic,
        change,
        "exact",
        f"The outputs of the first {middle} steps change with the inputs after them, which are their own targets: "
        f"set causal=True, or mask the future.",
    )


def evaluation_is_random(subject: Subject) -> Verdict | None:
    """The network in evaluation (``train=False``) gives other outputs with another random key.

    Dropout or noise that runs in evaluation makes validation and use worse than the network is.

    Statistic: the largest difference of the outputs for the same inputs with two keys.

    Threshold: above 0, for evaluation is deterministic bit for bit.

    When it is wrong: Monte Carlo dropout is random on purpose.
    """
    name, statistic = "evaluation is random", "largest difference of the outputs with two keys"
    x = subject.small_x
    keys = jax.random.split(jax.random.fold_in(subject.key, 1))
    first, second = (subject.forward(x, key=key).prediction for key in keys)
    difference = float(np.abs(np.asarray(first, np.float64) - np.asarray(second, np.float64)).max())
    if not difference > bound(name, statistic):
        return None
    sentence = "The network gives other outputs with another key although train is False: use noise in training only."
    return found(name, statistic, difference, "exact", sentence)


def train_mode_differs(subject: Subject) -> Verdict | None:
    """The loss in train mode is far from that in evaluation, on the same examples.

    Statistic: ``|L_train − L_eval| / L_eval`` on one batch.

    Threshold: above 0.5, as in TheDeepChecker (Ben Braiek and Khomh 2023).

    When it is wrong: strong dropout is legitimate, so it is a note.
    """
    name, statistic = "train mode differs", "|L_train − L_eval| / L_eval"
    noisy = holds(subject.cost.model, Dropout) or holds(subject.cost.model, GaussianNoise)
    if not (noisy or subject.closed):
        return None
    x = subject.small_x
    training = subject.forward(x, train=True, key=jax.random.fold_in(subject.key, 2)).loss
    evaluation = subject.forward(x).loss
    if not abs(evaluation) > 0:
        raise NotLookedAt("the loss is 0")
    difference = abs(float(training - evaluation) / float(evaluation))
    if not difference > bound(name, statistic):
        return None
    sentence = f"In train mode the loss is {training:.3g}, in evaluation {evaluation:.3g}: the noise is strong."
    return found(name, statistic, difference, "note", sentence)
