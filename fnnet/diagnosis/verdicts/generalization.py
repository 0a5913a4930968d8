"""Verdicts on what a network has learned: too little, too much by heart, or from the wrong examples."""

from __future__ import annotations

import numpy as np

from fnnet.checks import is_integer
from fnnet.diagnosis.changes import Change
from fnnet.diagnosis.evidence import MOST, Evidence, predictions
from fnnet.diagnosis.report import NotLookedAt, Verdict
from fnnet.diagnosis.statistics import neighbours, standard_columns, theil_sen, z_of
from fnnet.diagnosis.thresholds import bound, found
from fnnet.diagnosis.watched import Numbers
from fnnet.penalties import l2

NEIGHBOURS = 5
PERMUTATIONS = 100


def overfits(run: Evidence) -> list[Verdict]:
    """The validation loss has risen since its best epoch, while the training loss goes on falling.

    Statistics: the rise over the fall, ``Δ = (V_end − V_e*) / (V_0 − V_e*)``, where ``V_e*`` is the least validation
    loss; and ``z`` of the losses of each example, at the end against the best epoch. Thresholds: ``Δ`` ≥ 0.05 and
    ``z`` ≥ 3, with at least 3 epochs after the best one. Without a watch there is no ``z``.

    Source: the tuning playbook: the validation error starts to increase. A gap between training and validation is no
    fault: nearly every good model has one (SageMaker's rule of 10 % fires there), nor is one epoch that goes up
    (UMLAUT).

    When it is wrong: the loss can rise by overconfidence while the accuracy still gets better. The state of the best
    epoch costs nothing: ``callbacks.EarlyStopping``.
    """
    name, statistic = "overfits", "rise of the validation loss over its fall"
    step, value, _ = run.validated
    if len(value) < 3:
        raise NotLookedAt("the run has fewer than 3 looks; train for at least two epochs")
    best = int(np.nanargmin(value))
    after = len(value) - 1 - best
    fall = float(value[0] - value[best])
    if fall <= 0:
        return []
    rise = float((value[-1] - value[best]) / fall)
    training = run.training.value
    falls = training[-1] < training[min(best, len(training) - 1)]
    if not rise >= bound(name, statistic) or after < bound(name, "epochs after the best") or not falls:
        return []
    evidence: dict[str, object] = {"best epoch": best}
    if run.watched is not None and run.watched.losses:
        z = z_of(np.subtract(run.watched.losses["last_losses"], run.watched.losses["best_losses"]))
        if z < bound(name, "z of the losses"):
            return []
        evidence["z"] = z
    sentence = f"The validation loss was best {after} epochs before the end, and {rise:.0%} of its fall is lost again."
    window = int(step[best]), int(step[-1])
    remedy = (Change("penalty", "replace", l2(1e-3)), Change("dropout", "set", 0.5))
    return [found(name, statistic, rise, "suspected", sentence, window=window, evidence=evidence, remedy=remedy)]


def memorizes_without_learning(run: Evidence) -> list[Verdict]:
    """The training examples are learned, and never was the network better than a constant on any others.

    Statistics: ``λ`` of the training examples at the end, and the least ``λ`` of the validation examples of the whole
    run, each with two standard errors added. Thresholds: < 0.8 for training, with ``z`` ≥ 3 below the validation loss,
    and ≥ 0.99 for validation, over at least 3 epochs. A constant has 1 by definition.

    When it is wrong: validation data of another distribution look the same; hold out rows of the training set. The
    repair is in the data: labels that do not belong to their inputs.
    """
    name, statistic = "memorizes without learning", "least lambda of the validation examples"
    validated, training = run.validated, run.training
    if len(validated.value) < 4:
        raise NotLookedAt("the run has fewer than 3 epochs")
    learned, least = float(training.value[-1]), float(np.nanmin((validated.value + 2 * validated.error)[1:]))
    error = np.hypot(training.error[-1], validated.error[-1])
    z = float((validated.value[-1] - learned) / error) if error > 0 else np.inf
    if np.isnan(error):
        raise NotLookedAt("it needs the losses of single examples; watch the run")
    if not learned < bound(name, "lambda of the training examples") or least < bound(name, statistic):
        return []
    if z < bound(name, "z of the difference"):
        return []
    sentence = f"The loss on the training examples fell to {learned:.0%} of a constant's, and on others it never fell."
    return [found(name, statistic, least, "suspected", sentence, evidence={"training lambda": learned, "z": z})]


def a_class_is_not_learned(run: Evidence) -> list[Verdict]:
    """The network never gives the right answer for one of the classes, and is good at the others.

    Statistic: the recall of a class with at least 20 validation examples, at the end of the run. Threshold: ≤ 0, where
    the accuracy is > 1.2 times the share of the largest class.

    When it is wrong: a class that cannot be told from another one has a recall of 0 in the best of networks.
    """
    name, statistic = "a class is not learned", "least recall"
    _, y, output = predictions(run, "validation" if run.validation is not None else "data")
    if not is_integer(y) or output.ndim != y.ndim + 1 or output.shape[-1] < 2:
        raise NotLookedAt("the targets are no labels")
    kept = np.ones(y.shape, bool) if run.cost.ignore_label is None else y != run.cost.ignore_label
    labels, answers = y[kept], output[kept].argmax(-1)
    counts = np.bincount(labels)
    accuracy = float((answers == labels).mean())
    if accuracy <= bound(name, "accuracy over the largest class") * counts.max() / len(labels):
        return []
    frequent = [c for c, count in enumerate(counts) if count >= bound(name, "examples of the class")]
    recall = {c: float((answers[labels == c] == c).mean()) for c in frequent}
    missed = [c for c in frequent if recall[c] <= bound(name, statistic)]
    if not missed:
        return []
    sentence = f"Class {missed[0]} is never recognized, and {accuracy:.0%} of all examples are."
    evidence = {"classes": missed, "recall": recall, "accuracy": accuracy}
    return [found(name, statistic, recall[missed[0]], "suspected", sentence, evidence=evidence)]


def underfits(run: Evidence) -> list[Verdict]:
    """The training loss has stopped falling far above what the data allow: the network is too small.

    Statistic: the error on the training examples, minus that of their 5 nearest neighbours with the example itself left
    out, over the error of the best constant (the largest class, or the variance). Threshold: > 0.1, where ``λ`` falls
    by < 0.01 of itself within a tenth of the run, the median over its last half.

    Source: "avoidable bias"; the neighbours show that a lower error is possible, which a high loss alone does not.

    When it is wrong: neighbours are poor where distances mean little (images, text), and then nothing is said. A rate
    that is too low or too high, or a penalty, holds a large network back as well: their verdicts explain this one.
    """
    name, statistic = "underfits: too small", "error above that of the neighbours"
    series = run.training
    half = slice(len(series.value) // 2, None)
    if len(series.value[half]) < 3:
        raise NotLookedAt("the run has fewer than 5 looks")
    x, y, output = predictions(run, "data")
    values = np.maximum(series.value[half], 1e-6)
    span = float(series.step[-1] - series.step[0])
    slope = -theil_sen(series.step[half].astype(float), np.log(values)) * span / 10
    if not slope < bound(name, "fall of lambda per tenth of the run"):
        return []
    rows = neighbours(standard_columns(x), NEIGHBOURS)
    if is_integer(y) and y.ndim == 1 and output.ndim == 2:
        votes = np.stack([(y[rows] == c).sum(1) for c in range(output.shape[-1])], 1)
        own, other = float((output.argmax(1) != y).mean()), float((votes.argmax(1) != y).mean())
        constant = 1 - np.bincount(y).max() / len(y)
    elif not is_integer(y) and output.shape == y.shape:
        own, other = (float(np.square(guess - y).mean()) for guess in (output, y[rows].mean(1)))
        constant = float(y.var(0).mean())
    else:
        raise NotLookedAt("neighbours have no answer for targets of this shape")
    if constant <= 0:
        raise NotLookedAt("all targets are equal")
    gap = (own - other) / constant
    if not gap > bound(name, statistic):
        return []
    sentence = f"The error on the training examples stands at {own:.3g}; their nearest neighbours give {other:.3g}."
    window = int(series.step[half][0]), int(series.step[-1])
    return [found(name, statistic, gap, "suspected", sentence, window=window, remedy=Change("model", "widen", 4))]


def stopped_too_early(run: Evidence) -> list[Verdict]:
    """The loss was still falling when the run ended.

    Statistic: the share of ``λ`` that half as many steps again would take away, predicted by the Theil-Sen slope of
    ``log λ`` over the last fifth of the run, or its second half where that has too few looks:
    ``1 − exp(slope · T/2)``. It is ``λ`` of the validation data where there are at least 10 looks; else that of the
    probed steps, in 10 groups. Threshold: > 0.1, where ``λ`` > 0.02.

    Source: the tuning playbook looks whether the curve is "still improving".

    When it is wrong: a schedule that ends at 0 has nothing to give; the schedule must be extended too. A curve that
    falls like a power of time goes on for ever.
    """
    name, statistic = "stopped too early", "predicted fall of lambda"
    step, value = falling(run)
    last = step >= step[-1] - (step[-1] - step[0]) / 5
    if last.sum() < 4:  # of a short run, the second half
        last = step >= (step[0] + step[-1]) / 2
    if last.sum() < 3:
        last[-3:] = True
    if len(value) < 3 or not (value[last] > 0).all():
        raise NotLookedAt("there are fewer than 3 looks, or λ is below 0")
    if not value[-1] > bound(name, "lambda"):
        return []
    slope = theil_sen(step[last].astype(float), np.log(value[last]))
    gain = float(1 - np.exp(min(slope, 0) * (step[-1] - step[0]) / 2))
    if not gain > bound(name, statistic):
        return []
    sentence = f"The loss was still falling at the end: half as many steps again would take {gain:.0%} of it away."
    window = int(step[last][0]), int(step[-1])
    return [found(name, statistic, gain, "suspected", sentence, window=window, remedy=Change("epochs", "scale", 1.25))]


def falling(run: Evidence) -> tuple[Numbers, Numbers]:
    """Return steps and ``λ``: of the validation data, else of the training data, else of groups of probed steps."""
    try:
        series = run.validated
    except NotLookedAt:
        series = run.training
    if len(series.value) >= 10 or run.watched is None or len(run.watched.steps.get("cost", ())) < 10:
        known = np.isfinite(series.value)
        return series.step[known], series.value[known]
    step, cost = (np.asarray(run.watched.steps[each]) for each in ("step", "cost"))
    best_constant, least = run.watched.facts["training_bounds"]
    scale = best_constant - least if np.isfinite(least) else 1.0
    groups = np.array_split(np.arange(len(step)), 10)
    means = np.asarray([[step[rows].mean(), cost[rows].mean()] for rows in groups])
    return means[:, 0], 1 + (means[:, 1] - best_constant) / scale


def validation_better_than_training(run: Evidence) -> list[Verdict]:
    """The network is better on the validation examples than on those that it is trained on, which needs an explanation.

    Statistic: ``z`` of the difference of the mean losses, both of the deterministic network, at each of the last 3
    looks the smallest. Threshold: ≥ 3, where ``λ`` of the validation examples is also lower by > 0.05 at each of them.

    Source: UMLAUT's 5 points of accuracy compare with the noisy network of training, and flag 48 of 68 healthy ones.
    Dropout and augmentation make training examples harder; here both are evaluated without.

    When it is wrong: an easier validation set is no leak. Look for rows that occur in both.
    """
    name, statistic = "validation better than training", "z of the difference"
    validated, training = run.validated, run.training
    if len(validated.value) < 4:
        raise NotLookedAt("the run has fewer than 3 epochs")
    gaps = (training.value - validated.value)[-3:]
    errors = np.hypot(training.error, validated.error)[-3:]
    if np.isnan(errors).any():
        raise NotLookedAt("it needs the losses of single examples; watch the run")
    z = float((gaps / np.where(errors > 0, errors, np.inf)).min())
    if z < bound(name, statistic) or not (gaps > bound(name, "lambda")).all():
        return []
    sentence = f"The loss on the validation examples is lower than on those of training, by {gaps[-1]:.0%} of H0 - L*."
    return [found(name, statistic, z, "suspected", sentence, evidence={"gaps": gaps.tolist()})]


def training_and_test_differ(run: Evidence) -> list[Verdict]:
    """Training and validation inputs can be told apart: they come from different distributions.

    Statistic: the two-sample test by a classifier. For each of at most 256 rows of both sets together, the share of its
    5 nearest neighbours that come from its own set; ``z`` of the mean against 100 random divisions of the same rows.
    Threshold: > 5.

    Source: Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests".

    When it is wrong: a split by time differs on purpose; the verdict says so, and not that it does harm.
    """
    name, statistic = "training and test differ", "z of the two-sample test"
    rows = [run.sample(each)[0] for each in ("data", "validation")]
    if any(len(each) < 2 * NEIGHBOURS for each in rows):
        raise NotLookedAt("it needs at least 10 examples of both")
    count = min(MOST // 2, *(len(each) for each in rows))
    both = np.concatenate([np.asarray(each[:count], np.float64).reshape(count, -1) for each in rows])
    near = neighbours(standard_columns(both), NEIGHBOURS)
    origin = np.arange(2 * count) >= count
    random = np.random.default_rng(0)

    def agreement(labels: Numbers) -> float:
        return float((labels[near] == labels[:, None]).mean())

    chance = np.asarray([agreement(random.permutation(origin)) for _ in range(PERMUTATIONS)])
    z = float((agreement(origin) - chance.mean()) / max(chance.std(ddof=1), 1e-12))
    if not z > bound(name, statistic):
        return []
    sentence = "The inputs of the training and the validation data are not alike: neighbours tell which is which."
    return [found(name, statistic, z, "suspected", sentence, evidence={"agreement": agreement(origin)})]
