"""Every public activation, loss and penalty, with its inputs and the truth about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.truth import activations as activation_truths
from experiments.truth import battery
from experiments.truth import losses as loss_truths
from experiments.truth import penalties as penalty_truths
from experiments.truth.battery import Batch
from experiments.truth.exact import Truth
from fnnet import activations, bind, losses, penalties
from fnnet.binding import name_of


class Subject(NamedTuple):
    """A function, what it should return, and the inputs that it is tried on."""

    kind: str  # activation, loss or penalty
    name: str
    function: Callable[..., Any]
    truth: Truth
    batches: list[Batch]


Entry = tuple[Callable[..., Any], Truth, list[Batch]]

SMOOTHED: dict[str, Any] = {"smoothing": 0.125}
WEIGHTED: dict[str, Any] = {"class_weights": (0.5, 2.0, 1.0)}


def subjects() -> list[Subject]:
    return [*activation_subjects(), *loss_subjects(), *penalty_subjects()]


def activation_subjects() -> list[Subject]:
    f, truths = activations, activation_truths
    elementwise = truths.elementwise()
    without_options = [getattr(f, name) for name in f.__all__ if name in elementwise]
    bound = [bind(f.celu, alpha=0.5), bind(f.gelu, approximate=True)]
    along_axes: list[Entry] = [
        (f.glu, truths.glu, battery.GATES),
        (bind(f.maxout, pieces=3), truths.maxout, battery.THREES),
        (f.softmax, truths.softmax, battery.AXES),
        (f.log_softmax, truths.log_softmax, battery.AXES),
    ]
    of_each_entry = [(a, elementwise[name_of(a)], battery.SCALARS) for a in [*without_options, *bound]]
    rows: list[Entry] = [*of_each_entry, *along_axes]
    return [Subject("activation", name_of(a), a, truth, batches) for a, truth, batches in rows]


def loss_subjects() -> list[Subject]:
    f, t = losses, loss_truths
    logits, chances = battery.CLASS_LOGITS, battery.CLASS_PROBABILITIES
    three_logits, three_chances = logits[:2], chances[:2]  # class weights are for three classes
    rows: list[Entry] = [
        (f.squared_error, t.total(t.square, mean=True), battery.REALS),
        (f.half_squared_error, t.total(t.half_square, mean=True), battery.REALS),
        (f.absolute_error, t.total(t.absolute, mean=True), battery.REALS),
        (f.huber, t.total(t.huber(1.0), mean=True), battery.REALS),
        (bind(f.huber, delta=0.25), t.total(t.huber(0.25), mean=True), battery.REALS),
        (f.log_cosh, t.total(t.log_cosh, mean=True), battery.REALS),
        (f.cosine, t.cosine, battery.DIRECTIONS),
        (f.binary_cross_entropy, t.total(t.binary_cross_entropy), battery.BINARY_PROBABILITIES),
        (f.sigmoid_cross_entropy, t.total(t.sigmoid_cross_entropy), battery.BINARY_LOGITS),
        (f.hinge, t.total(t.hinge), battery.MARGINS),
        (f.squared_hinge, t.total(t.squared_hinge), battery.MARGINS),
        (f.cross_entropy, t.cross_entropy(), chances),
        (bind(f.cross_entropy, **SMOOTHED), t.cross_entropy(**SMOOTHED), chances),
        (bind(f.cross_entropy, **WEIGHTED), t.cross_entropy(**WEIGHTED), three_chances),
        (f.softmax_cross_entropy, t.softmax_cross_entropy(), logits),
        (bind(f.softmax_cross_entropy, **SMOOTHED), t.softmax_cross_entropy(**SMOOTHED), logits),
        (bind(f.softmax_cross_entropy, **WEIGHTED), t.softmax_cross_entropy(**WEIGHTED), three_logits),
        (f.focal, t.focal(2), logits),
        (bind(f.focal, gamma=0.0), t.focal(0), logits),
        (bind(f.focal, gamma=0.5), t.focal(0.5), logits),
        (bind(f.focal, **WEIGHTED, **SMOOTHED), t.focal(2, **WEIGHTED, **SMOOTHED), three_logits),
        (f.kl_divergence, t.kl_divergence, battery.NEAR_DISTRIBUTIONS),
        (f.poisson_negative_log_likelihood, t.total(t.poisson), battery.COUNTS),
        (f.gaussian_negative_log_likelihood, t.gaussian, battery.NORMALS),
    ]
    return [Subject("loss", name_of(a), a, truth, batches) for a, truth, batches in rows]


def penalty_subjects() -> list[Subject]:
    truth = penalty_truths.elastic_net
    return [
        Subject("penalty", "l1(0.01)", penalties.l1(0.01), truth("0.01", "0"), battery.WEIGHTS),
        Subject("penalty", "l2(0.001)", penalties.l2(0.001), truth("0", "0.001"), battery.WEIGHTS),
        Subject(
            "penalty",
            "elastic_net(0.01, 0.001)",
            penalties.elastic_net(0.01, 0.001),
            truth("0.01", "0.001"),
            battery.WEIGHTS,
        ),
    ]
