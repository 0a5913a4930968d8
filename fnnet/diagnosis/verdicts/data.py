"""Verdicts on the data: inputs, targets, and how they belong together."""

from __future__ import annotations

from typing import Any

import numpy as np

from fnnet import checks
from fnnet.diagnosis.changes import Change
from fnnet.diagnosis.report import NotLookedAt, Verdict
from fnnet.diagnosis.statistics import neighbours, standard_columns
from fnnet.diagnosis.subject import Numbers, Subject, spread
from fnnet.diagnosis.thresholds import bound, found
from fnnet.layers import BatchNorm, Embedding, GroupNorm, LayerNorm
from fnnet.paths import named_leaves

CONSTANT = 1e-7  # a standard deviation below this part of the mean is that of a constant in float32
SAMPLE = 512  # examples whose distances or correlations are computed
NEIGHBOURS = 5
PERMUTATIONS = 100
FEWEST = 50  # examples for which a permutation test says something
WIDEST = 1024  # features of which all pairs are compared


def inputs_are_not_scaled(subject: Subject) -> Verdict | None:
    """The inputs are far from the scale that initializers and learning rates are made for.

    Initializers suppose inputs of about unit variance. Inputs 100 times as large make the first layer's outputs, its
    gradients and the curvature of the loss 100 to 10,000 times as large; features of very different scales make it
    badly conditioned, so that no rate suits all of them.

    Statistics: ``r = √2 · rms(x)``, what ``rms`` of the first outputs is after a He initialization; over the features
    that vary, ``max σ / median σ``, the largest standard deviation over the median, and ``max |μ|/σ``, the largest
    offset. Features are the columns of a table, and the last axis of images and sequences.

    Thresholds: ``r`` below 0.05 or above 5; ``max σ / median σ`` above 30; ``max |μ|/σ`` above 10. Digits from 0 to 1
    have ``r = 0.7``, from 0 to 16 ``11``, from 0 to 255 ``181``.

    When it is wrong: a first layer that normalizes makes the scale harmless, and such models are not looked at. Inputs
    of 0 and 1 may be rare, so only an upper bound holds for them. Tools that want every entry in [−1, 1] call
    standardized data wrong; this does not. Suspected, until a rerun with standardized inputs is better.
    """
    name = "inputs are not scaled"
    trained = {name.rpartition(".")[0] for name, _ in named_leaves(subject.params)}
    first = next((layer for path, layer in subject.layers.items() if path in trained), None)
    if isinstance(first, (BatchNorm, GroupNorm, LayerNorm, Embedding)):
        return None
    table = subject.table
    binary = bool(np.isin(table, (0, 1)).all())
    mean, deviation = table.mean(0), table.std(0)
    varies = deviation > CONSTANT * np.abs(mean)
    if not varies.any():
        raise NotLookedAt("no feature varies")
    r = float(np.sqrt(2 * np.square(table).mean()))
    spread_of = float(deviation.max() / np.median(deviation[varies]))
    offset = float((np.abs(mean[varies]) / deviation[varies]).max())
    evidence = {"r": r, "max σ / median σ": spread_of, "max |μ|/σ": offset}
    remedy = Change("inputs", "standardize")
    sentences = {
        "r, at most": (r, f"The inputs are large (rms {r / 2**0.5:.3g} instead of about 1)"),
        "r, at least": (r, f"The inputs are tiny (rms {r / 2**0.5:.2g} instead of about 1)"),
        "max σ / median σ": (spread_of, f"One feature varies {spread_of:.3g} times as much as the median one"),
        "max |μ|/σ": (offset, f"A feature lies {offset:.3g} standard deviations from 0"),
    }
    for statistic, (value, sentence) in sentences.items():
        limit = bound(name, statistic)
        beyond = value < limit and not binary if statistic == "r, at least" else value > limit
        if beyond and not (binary and statistic != "r, at most"):
            sentence += ": standardize them with the mean and deviation of the training data."
            return found(name, statistic, value, "suspected", sentence, evidence=evidence, remedy=remedy)
    return None


def targets_are_not_scaled(subject: Subject) -> Verdict | None:
    """The real targets are far from the scale and the offset that a network starts with.

    Outputs start at about unit size around 0. Targets in the hundreds take thousands of steps to reach, and their
    squared errors have gradients to match. An offset alone is learned by the output bias, slowly if it is large.

    Statistics, of each output: ``|mean y| / std y``, the offset; ``std y`` and ``std y / rms f(θ₀, x)``, the spread;
    both lie outside the bounds. Outputs that start at 0 have only the first.

    Thresholds: the offset above 10; the spread below 0.05 or above 20.

    When it is wrong: with a large offset, a bias that starts at the mean of the targets is enough (Karpathy 2019).
    Suspected, until a rerun with standardized targets is better.
    """
    name = "targets are not scaled"
    if not subject.is_regression:
        return None
    y = np.asarray(subject.y[spread(len(subject.y), 4096)], np.float64)
    y = y.reshape(-1, y.shape[-1] if y.ndim > 1 else 1)
    mean, deviation = y.mean(0), y.std(0)
    varies = deviation > CONSTANT * np.abs(mean)
    if not varies.any():
        raise NotLookedAt("no target varies")
    offset = float((np.abs(mean[varies]) / deviation[varies]).max())
    if offset > bound(name, "|mean y| / std y"):
        return found(
            name,
            "|mean y| / std y",
            offset,
            "suspected",
            f"The targets lie {offset:.3g} standard deviations from 0, where the outputs start: subtract their mean.",
            remedy=Change("targets", "standardize"),
        )
    output = float(np.sqrt(np.square(np.asarray(subject.look.prediction, np.float64)).mean()))
    size = float(deviation.max())
    relative = size / output if output > 0 else size
    for statistic, sign in (("std y, at most", 1), ("std y, at least", -1)):
        limit = bound(name, statistic)
        if sign * size > sign * limit and sign * relative > sign * limit:
            return found(
                name,
                statistic,
                size,
                "suspected",
                f"The targets vary by {size:.3g} and the outputs start at a size of {output:.3g}: standardize the "
                f"targets, and multiply the predictions by {size:.3g} afterwards.",
                evidence={"rms of the outputs": output},
                remedy=Change("targets", "standardize"),
            )
    return None


def constant_or_copied_features(subject: Subject) -> list[Verdict]:
    """Features that are the same in all examples, or equal to another feature up to scale, and so say nothing new.

    A constant feature acts as one more bias. Many of them hint at a mistake in reading the data. A copy makes two
    weights do the work of one.

    Statistic: the share of features with ``σ = 0``. Copies are pairs with ``|corr| = 1`` up to rounding among at most
    512 examples, and are a note.

    Threshold: a share above 0.5 is a verdict, and anything above 0 a note. Of the pixels of scikit-learn's digits, 3 of
    64 are constant.

    When it is wrong: the border of images is constant, and harmless. Only tables are looked at, because the pixels of
    an image share their weights in a convolution.
    """
    name, statistic = "constant or copied features", "share of features with σ = 0"
    if subject.x.ndim != 2 or not checks.is_float(subject.x):
        raise NotLookedAt("the inputs are no table of real numbers (N, D)")
    if len(subject.x) < FEWEST:
        raise NotLookedAt(f"there are {len(subject.x)} examples; features may agree by chance in fewer than {FEWEST}")
    constant = np.ptp(subject.x, 0) == 0
    share = float(constant.mean())
    rows = []
    if share > 0:
        rows.append(
            found(
                name,
                statistic,
                share,
                "exact" if share > bound(name, statistic) else "note",
                f"{constant.sum()} of {len(constant)} features are the same in all examples, and tell nothing.",
                evidence={"columns": np.flatnonzero(constant).tolist()},
            )
        )
    copies = copied(subject.x, ~constant) if len(constant) <= WIDEST else []
    if copies:
        first, second = copies[0]
        sentence = f"Feature {second} is feature {first} up to scale and offset, and so are {len(copies)} pairs in all."
        evidence = {"columns": copies[:100]}
        rows.append(found(name, "copied features", len(copies), "note", sentence, evidence=evidence))
    return rows


def copied(x: Numbers, varies: Any) -> list[tuple[int, int]]:
    """Return the pairs of features that are the same up to scale and offset, in all of at most 512 examples.

    A feature that differs from its most frequent value in few of them is not compared.
    """
    sample = np.asarray(x[spread(len(x), SAMPLE)], np.float64)
    middle = np.median(sample, 0)
    columns = np.flatnonzero(varies & ((sample != middle).sum(0) > 10))
    z = sample[:, columns] - sample[:, columns].mean(0)
    z /= np.sqrt(np.square(z).sum(0))
    same = np.triu(np.abs(z.T @ z) > 1 - 1e-9, 1)
    return [(int(columns[i]), int(columns[j])) for i, j in zip(*np.nonzero(same), strict=True)]


def labels_do_not_depend_on_the_inputs(subject: Subject) -> Verdict | None:
    """Neither near neighbours nor a linear model know more of the targets than chance.

    Inputs and targets may have been shuffled apart, shifted by one row, or read from different files.

    Statistic: two statistics, each as ``z = (s − mean)/sd`` over 100 permutations of the targets: how often an example
    has the label of its 5 nearest neighbours (for real targets, the product of both), and the leave-one-out error of
    ridge regression. Features are standardized, and at most 512 examples are looked at.

    Threshold: both ``z`` below 3. Nine real data sets have at least 7 with 128 examples, and shuffled ones at most 3.0;
    with 40 % of the labels wrong it is still 20.

    When it is wrong: parity and other rules that no neighbour knows look the same. So this is a note before training,
    and a verdict only if training learns nothing either.
    """
    name, statistic = "labels do not depend on the inputs", "larger z of two permutation tests"
    if not checks.is_float(subject.x):
        raise NotLookedAt("the inputs are integers, which have no distances")
    rows = spread(len(subject.x), SAMPLE)
    if len(rows) < FEWEST:
        raise NotLookedAt(f"there are {len(rows)} examples; a permutation test needs {FEWEST}")
    targets = as_matrix(subject, rows)
    x = standard_columns(subject.x[rows])
    z = max(permutation_z(neighbour_map(x), targets), -permutation_z(ridge_map(x), targets, square=True))
    if not z < bound(name, statistic):
        return None
    return found(
        name,
        statistic,
        z,
        "note",
        "Neither the nearest neighbours nor a linear model know more of the targets than chance: if the task is not "
        "one of logic, check that inputs and targets belong together.",
    )


def as_matrix(subject: Subject, rows: Numbers) -> Numbers:
    """Return the targets of one label or a few numbers each as ``(n, m)``: one-hot, or standardized."""
    y = subject.y[rows]
    if (y == y[:1]).all():
        raise NotLookedAt("the targets are all alike")
    if subject.classes is not None and len(subject.classes) == len(subject.y):
        labels = subject.classes[rows]
        return np.asarray(labels[:, None] == np.unique(labels), np.float64)
    if not subject.is_regression or y.ndim > 2:
        raise NotLookedAt("the targets are sequences or images")
    return standard_columns(y)


def neighbour_map(x: Numbers) -> Numbers:
    """Return the matrix that takes the mean over the 5 nearest neighbours of every example."""
    mean = np.zeros((len(x), len(x)))
    np.put_along_axis(mean, neighbours(x, NEIGHBOURS), 1 / NEIGHBOURS, 1)
    return mean


def ridge_map(x: Numbers) -> Numbers:
    """Return the matrix from targets to the leave-one-out residuals of ridge regression, ``(y − H y)/(1 − h)``.

    ``H = K (K + I)⁻¹`` with ``K = x xᵀ / D`` and a constant for the offset (Hastie et al. 2009, eq. 7.64).
    """
    n = len(x)
    kernel = x @ x.T / max(1, x.shape[1]) + 1
    hat = np.linalg.solve(kernel + np.eye(n), kernel).T
    return (np.eye(n) - hat) / (1 - np.diag(hat))[:, None]


def permutation_z(linear: Numbers, targets: Numbers, *, square: bool = False) -> float:
    """Return ``z`` of ``Σ t · A t``, or of ``‖A t‖²``, against permutations of the targets; 0 if nothing varies."""
    random = np.random.default_rng(0)
    n, _m = targets.shape
    orders = np.stack([np.arange(n), *(random.permutation(n) for _ in range(PERMUTATIONS))])
    t = targets[orders].transpose(1, 0, 2)  # (n, permutations, m)
    mapped = (linear @ t.reshape(n, -1)).reshape(t.shape)
    values = (np.square(mapped) if square else t * mapped).sum((0, 2))
    deviation = values[1:].std()
    return float((values[0] - values[1:].mean()) / deviation) if deviation > 0 else 0.0


def rows_occur_in_training_and_test(subject: Subject) -> Verdict | None:
    """Examples of the validation data are also in the training data, so that validation measures memory.

    This happens if data are split after augmentation or oversampling, or if a table holds rows twice.

    Statistic: the share of the rows of the validation inputs that are rows of the training inputs, bit for bit, and
    this share over that of the training rows that occur twice.

    Thresholds: a share above 0.01, one row not counted, and above 3 times that within the training data. Where rows are
    few by nature (truth tables, short texts), both shares are alike.

    When it is wrong: the rows are counted as they are; whether they came there by mistake is for the reader to say.
    """
    name, statistic = "rows occur in training and test", "share of the validation rows"
    if subject.validation is None:
        raise NotLookedAt("there are no validation data; pass validation=")
    if not subject.whole:
        raise NotLookedAt("the training data are a stream, of which one batch was read; pass arrays")
    training = [hash(row.tobytes()) for row in subject.x]
    times: dict[int, int] = {}
    for row in training:
        times[row] = times.get(row, 0) + 1
    within = sum(times[row] > 1 for row in training) / len(training)
    other = np.asarray(subject.validation[0], subject.x.dtype)
    common = np.array([hash(row.tobytes()) in times for row in other])
    share = float(common.mean())
    beyond_one = (common.sum() - 1) / len(common)
    if not (beyond_one > bound(name, statistic) and share > bound(name, "share over that within training") * within):
        return None
    return found(
        name,
        statistic,
        share,
        "exact",
        f"{common.sum()} of {len(other)} validation examples are also in the training data: take them out before "
        f"you believe the validation loss.",
        evidence={"within the training data": within, "rows": np.flatnonzero(common).tolist()},
    )


def a_feature_gives_the_answer_away(subject: Subject) -> Verdict | None:
    """One feature alone tells the target, and all others together do not: it may have been made from the target.

    Numbers of rows sorted by class, or the label itself among the features, give perfect validation and fail in use.

    Statistic: for classes, ``1 − (c − (C − 1))/n``, where ``c`` counts how often the label changes along the sorted
    feature; for a real target ``|corr|``. Without the feature: the share of examples with the label of most of their 5
    nearest neighbours, or the squared correlation of leave-one-out ridge predictions.

    Thresholds: alone at least 0.999, without it at most 0.95.

    When it is wrong: there are tasks that one feature solves. So it is a note.
    """
    name, statistic = "a feature gives the answer away", "what the feature alone knows"
    if subject.x.ndim != 2 or not checks.is_float(subject.x):
        raise NotLookedAt("the inputs are no table of real numbers (N, D)")
    rows = spread(len(subject.x), SAMPLE)
    if len(rows) < FEWEST:
        raise NotLookedAt(f"there are {len(rows)} examples; it needs {FEWEST}")
    targets, x = as_matrix(subject, rows), standard_columns(subject.x[rows])
    if subject.is_regression and targets.shape[1] > 1:
        raise NotLookedAt("the targets have several outputs")
    if subject.is_regression:
        alone = np.abs(x.T @ targets[:, :1] / len(x))[:, 0]
    else:
        labels = targets.argmax(1)[np.argsort(x, 0, kind="stable")]
        changes = (labels[1:] != labels[:-1]).sum(0)
        alone = 1 - np.maximum(0, changes - (targets.shape[1] - 1)) / len(x)
    best = int(alone.argmax())
    if (targets.shape[1] < 2 and not subject.is_regression) or alone[best] < bound(name, statistic):
        return None
    rest = np.delete(x, best, 1)
    if rest.shape[1] == 0:
        return None
    if subject.is_regression:
        without = 1 - float(np.square(ridge_map(rest) @ targets[:, :1]).sum() / np.square(targets[:, :1]).sum())
    else:
        without = float(((neighbour_map(rest) @ targets).argmax(1) == targets.argmax(1)).mean())
    if without > bound(name, "what all others know"):
        return None
    return found(
        name,
        statistic,
        alone[best],
        "note",
        f"Feature {best} alone tells the target, and the others do not ({without:.0%}): check that it is known before "
        f"the target is.",
        evidence={"column": best, "what all others know": without},
    )


def classes_are_unbalanced(subject: Subject) -> list[Verdict]:
    """Some classes have many times as many examples as others, or none at all.

    Imbalance alone harms nothing. It makes accuracy a poor measure, and rare classes may not be learned.

    Statistic: ``max_c n_c / min_c n_c`` over the classes that occur. Outputs without any example are counted, too.
    Only one label per example is looked at: letters and words differ in frequency by nature.

    Threshold: above 10, as the rule ``ClassImbalance`` of Amazon SageMaker Debugger; above 0 classes without examples.

    When it is wrong: it is a note. It becomes a verdict if a class is not learned.
    """
    name, statistic = "classes are unbalanced", "max n / min n"
    if subject.classes is None or len(subject.classes) != len(subject.y):
        return []
    labels, counts = np.unique(subject.classes, return_counts=True)
    outputs = max(2, subject.look.prediction.shape[-1])
    rows = []
    if len(labels) < outputs and len(subject.classes) > 20 * outputs:
        sentence = f"The model has {outputs} classes and the data have examples of {len(labels)} of them."
        rows.append(found(name, "classes without examples", outputs - len(labels), "note", sentence))
    ratio = float(counts.max() / counts.min()) if len(counts) else 1.0
    if ratio > bound(name, statistic):
        sentence = f"The most frequent class has {ratio:.3g} times as many examples as the rarest: look at each class."
        rows.append(found(name, statistic, ratio, "note", sentence))
    return rows


def data_are_sorted_and_not_shuffled(subject: Subject) -> Verdict | None:
    """Examples of one class follow each other and the run does not shuffle them, so batches hold one class each.

    The network then learns the class of the batch and forgets the others.

    Statistic: the test of runs, ``z = (R − E R)/sd R``, where ``R`` counts the runs of equal labels,
    ``E R = n + 1 − Σ n_c²/n``, and ``n_c`` are the counts of the classes (Wald and Wolfowitz 1940; for several classes
    Barton and David 1957).

    Threshold: below -5 with ``shuffle=False``.

    When it is wrong: with the whole data as one batch the order does not matter, and time series are meant to be in
    order. Suspected, until a rerun with shuffling is better.
    """
    name, statistic = "data are sorted and not shuffled", "z of the number of runs"
    if subject.shuffled:
        return None
    labels = subject.classes
    if labels is None or len(labels) != len(subject.y):
        raise NotLookedAt("the targets are no classes")
    if not subject.whole:
        raise NotLookedAt("the data are a stream, of which one batch was read")
    z = runs_z(labels)
    if not z < bound(name, statistic):
        return None
    sentence = "Examples of one class follow each other, and the run does not shuffle them: pass shuffle=True."
    return found(name, statistic, z, "suspected", sentence, remedy=Change("shuffle", "set", True))


def runs_z(labels: Numbers) -> float:
    """Return ``z`` of the number of runs of equal labels, 0 if there is one class only."""
    n = len(labels)
    counts = np.unique(labels, return_counts=True)[1].astype(np.float64)
    squares, cubes = (counts**2).sum(), (counts**3).sum()
    expected = n + 1 - squares / n
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * max(1, n - 1))
    runs = 1 + (labels[1:] != labels[:-1]).sum()
    return float((runs - expected) / np.sqrt(variance)) if variance > 0 else 0.0
