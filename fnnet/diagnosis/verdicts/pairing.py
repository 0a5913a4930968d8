"""Verdicts on the pairing of the output of a network with its loss and its targets."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import activations, losses
from fnnet.binding import name_of, unbind
from fnnet.cost import Cost
from fnnet.diagnosis.changes import Change
from fnnet.diagnosis.programs import compiled
from fnnet.diagnosis.report import NotLookedAt, Verdict
from fnnet.diagnosis.subject import Subject, through_layers
from fnnet.diagnosis.thresholds import bound, found
from fnnet.layers import Activation
from fnnet.mistakes import PROBABILITIES
from fnnet.types import Array, Layer

FAR = 8.0  # how far an output is on the wrong side; the derivative of a sigmoid is 3e-4 there


def output_cannot_express_the_targets(subject: Subject) -> Verdict | None:
    """The last activation cannot give the outputs that the loss asks for, whatever the weights are.

    Examples are softmax before softmax cross-entropy, sigmoid before sigmoid cross-entropy, softmax over one unit,
    and a bounded or positive output for targets outside its range. The network may still learn to classify, but its
    loss stops at a floor and its gradients do not tell right from wrong as they should.

    Statistic: ``(F − L*)/(H₀ − L*)``, where ``F = 1/N Σ_n min_v loss(a(v), y_n)`` is the least loss after the last
    activation ``a``, ``L*`` the least loss of any prediction, and ``H₀`` that of the best constant prediction. All
    three are computed numerically, so names do not matter. With softmax before softmax cross-entropy,
    ``F = log(1 + (C − 1)/e)``: 0.3133, 0.5514 and 1.4612 for 2, 3 and 10 classes.

    Threshold: above 0.02. It is 0 where the targets can be reached, or approached without end, as by softmax with
    cross-entropy; 0.02 is the tolerance of the minimization.

    When it is wrong: never about what can be reached. An output that leaves out some targets on purpose, such as
    values cut off at 0, has it too.
    """
    name, statistic = "output cannot express the targets", "(F − L*)/(H₀ − L*)"
    tail, bounds = subject.tail, subject.finite_bounds
    if np.isnan(bounds.floor):
        raise NotLookedAt(
            "the loss has no least value over all numbers, so the outputs that it is made for are unknown"
        )
    share = (bounds.floor - bounds.least) / (bounds.constant - bounds.least)
    if not share > bound(name, statistic):
        return None
    path, last = tail[0]
    return found(
        name,
        statistic,
        share,
        "exact",
        f"After {name_of(getattr(last, 'function', last))} the loss cannot fall below {bounds.floor:.3g}, although "
        f"{bounds.least:.3g} is possible for these targets: leave it out, or take a loss that is made for it.",
        layer=path,
        evidence={"floor": bounds.floor, "least": bounds.least, "constant": bounds.constant},
        remedy=mended_output(subject.cost, path),
    )


def mended_output(cost: Cost, path: str) -> Change:
    """Return the change that gives the loss the outputs that it is made for."""
    logits_loss, _ = PROBABILITIES.get(unbind(cost.loss)[0], ("", ()))
    if not logits_loss:
        return Change(f"model.{path}", "remove")
    function = activations.softmax if logits_loss == "softmax_cross_entropy" else activations.sigmoid
    return Change(f"model.{path}", "replace", Activation(function))


def loss_is_flat_where_the_output_is_most_wrong(subject: Subject) -> Verdict | None:
    """The gradient of the loss vanishes where the output is surely wrong, so that mistakes are not mended.

    This is the learning slowdown of a squared or absolute error after sigmoid, tanh or softmax for classes. A
    cross-entropy does not have it, because its derivative cancels that of the activation.

    Statistic: ``median_n ‖∂loss(a(v_n))/∂v‖ / ‖∂loss(a(0))/∂v‖``, where ``a`` is the last activation and ``v_n`` lies
    at a distance of 8 in every output on the side where the loss rises.

    Threshold: below 0.05. Cross-entropies have 1 to 2, the squared error after sigmoid 1e-3.

    When it is wrong: the squared error of probabilities (Brier score) and distillation are used with success, from
    starts where no output is far off. So it is only suspected until a rerun with the matching cross-entropy is better.
    """
    name, statistic = "loss is flat where the output is most wrong", "median ‖∂loss/∂v‖ at 8 over that at 0"
    if subject.classes is None or not subject.tail:
        return None
    tail = tuple(layer for _, layer in subject.tail)
    _, y, _ = subject.probe
    body = subject.shapes_of(len(subject.rows))[1]
    at_zero, far = jax.device_get(compiled(slopes, subject.cost, tail, body)(y))
    ratios = far[at_zero > 0] / at_zero[at_zero > 0]
    if len(ratios) == 0:
        raise NotLookedAt("the loss has no slope at outputs of 0")
    ratio = float(np.median(ratios))
    if not ratio < bound(name, statistic):
        return None
    path, last = subject.tail[0]
    return found(
        name,
        statistic,
        ratio,
        "suspected",
        f"Where the network is surely wrong, the gradient through {name_of(getattr(last, 'function', last))} is "
        f"{ratio:.1g} of that where it is undecided, so such mistakes hardly teach it: take a cross-entropy of logits.",
        layer=path,
        remedy=matching_loss(last),
    )


def slopes(cost: Cost, tail: tuple[Layer, ...], body: tuple[int, ...], y: Array) -> tuple[Array, Array]:
    through = through_layers(tail)
    slope = jax.grad(lambda v: cost.mean_loss(through(v), y))
    at_zero = slope(jnp.zeros(body))
    far = slope(FAR * jnp.sign(at_zero))

    def lengths(g: Array) -> Array:
        return jnp.sqrt(jnp.square(g.reshape(len(g), -1)).sum(1))

    return lengths(at_zero), lengths(far)


def matching_loss(last: Any) -> Change | None:
    """Return the change to the cross-entropy of the probabilities that the model gives; None if it gives none."""
    end = unbind(getattr(last, "function", last))[0]
    if end is activations.softmax:
        return Change("loss", "replace", losses.cross_entropy)
    if end is activations.sigmoid:
        return Change("loss", "replace", losses.binary_cross_entropy)
    return None


def loss_at_the_start_is_not_that_of_knowing_nothing(subject: Subject) -> Verdict | None:
    """The first loss is far from that of a constant prediction, although the network knows nothing yet.

    Too high, the outputs are large and wrong: inputs are not scaled, weights start too large, or the targets are not
    those that the output is made for. The first hundreds of steps then only shrink the outputs. Too low, the network
    knows something already: its parameters are trained, or the answer is among the inputs.

    Statistic: ``λ₀ = (L(θ₀) − L*)/(H₀ − L*)`` on at most 512 examples, in the deterministic network, without the
    penalty. ``H₀`` counts the frequencies of the classes, so imbalance cancels. For real targets the mean of the
    outputs is moved to that of the targets before, because the first steps learn such an offset.

    Threshold: above 4 or below 0.5. Of 1,350 healthy dense networks the largest had 3.22 and the least 0.64; inputs 16
    times too large have 6.4, pixels from 0 to 255 have 102. The check itself is Karpathy's ("A recipe for training
    neural networks", 2019), who compares with ``log C``; a bound of twice ``log C`` would call healthy starts sick.

    When it is wrong: trained parameters start low. A large loss at the start does harm only if it lasts, so the verdict
    is suspected, and the statistic tells where to look: at the inputs, the initializer or the targets.
    """
    name = "loss at the start is not that of knowing nothing"
    high, low = "λ₀, at most", "λ₀, at least"
    bounds = subject.finite_bounds
    loss = float(subject.look.centered_loss)
    value = (loss - bounds.least) / (bounds.constant - bounds.least)
    evidence = {"loss": loss, "constant": bounds.constant, "least": bounds.least}
    if value < bound(name, low):
        sentence = (
            f"Before any training the loss is {loss:.3g}, well below the {bounds.constant:.3g} of the best constant "
            f"prediction: the parameters are trained already, or the inputs hold the answer."
        )
        return found(name, low, value, "note", sentence, evidence=evidence)
    if not value > bound(name, high) and np.isfinite(loss):
        return None
    sentence = (
        f"Before any training the loss is {loss:.3g}, {value:.3g} times that of the best constant prediction: the "
        f"outputs are large and wrong, so look at the scale of the inputs, the weights and the targets."
    )
    remedy = Change("params", "draw")
    return found(name, high, value, "suspected", sentence, evidence=evidence, remedy=remedy)
