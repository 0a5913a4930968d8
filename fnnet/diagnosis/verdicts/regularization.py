"""Verdicts on regularization: too much of it, and too little."""

from __future__ import annotations

import numpy as np

from fnnet.diagnosis.changes import Change
from fnnet.diagnosis.evidence import Evidence
from fnnet.diagnosis.report import NotLookedAt, Verdict
from fnnet.diagnosis.thresholds import bound, found
from fnnet.diagnosis.verdicts.generalization import overfits
from fnnet.layers import Dropout
from fnnet.layers.nesting import holds
from fnnet.penalties import l2

WEAKER = tuple(Change("penalty", "scale", factor) for factor in (0.1, 1e-3))
STRONGER = (
    Change("penalty", "replace", l2(1e-3)),
    Change("penalty", "replace", l2(1e-2)),
    Change("dropout", "set", 0.2),
    Change("dropout", "set", 0.5),
)


def a_penalty_rules(run: Evidence) -> list[Verdict]:
    """The penalty ``R`` pushes the weights back as hard as the loss ``L`` pushes them on, long before it is learned.

    Statistic: ``r = ⟨∇R, −∇L⟩ / ‖∇L‖²`` on the training examples, the median over the looks of the last half of the
    run. Threshold: > 0.7, where ``λ`` > 0.3 and has not fallen by more than 0.02 over that half. Where the penalty has
    pulled the parameters to less than 0.1 of their norm at the start, ``r`` counts as 1: all its terms vanish.

    At any stationary point of ``L + R`` it is 1, so a converged run with a penalty has it as well (TheDeepChecker's
    rule of a growing ratio fires there); that is why ``λ`` must be high.

    When it is wrong: where the labels are so noisy that a high ``λ`` is the best there is. The rerun with a tenth of
    the strength tells.
    """
    name, statistic = "a penalty rules", "push of the penalty against the loss"
    if run.cost.penalty is None:
        return []
    watched = run.watch()
    if "penalty_push" not in watched.looks or len(watched.looks["step"]) < 3:
        raise NotLookedAt("the run has fewer than 3 looks at the gradient; train for at least two epochs")
    half = slice(len(watched.looks["step"]) // 2, None)
    value = float(np.median(np.asarray(watched.looks["penalty_push"])[half]))
    norms = np.sqrt(np.square(np.asarray(watched.looks["parameter_norm"])).sum(1))
    if norms[-1] < bound(name, "norm of the parameters over that of the start") * norms[0]:
        value = 1.0
    training = run.training.value[half]
    fell = float(training[0] - training[-1])
    if (
        not value > bound(name, statistic)
        or not training[-1] > bound(name, "lambda")
        or fell > bound(name, "fall of lambda")
    ):
        return []
    window = int(run.training.step[half][0]), int(run.training.step[-1])
    sentence = f"The penalty undoes {value:.0%} of what the loss asks for, and the loss is still high."
    return [found(name, statistic, value, "suspected", sentence, window=window, remedy=WEAKER)]


def lack_of_regularization(run: Evidence) -> list[Verdict]:
    """The run overfits, and nothing in it works against that.

    Statistic: that of "overfits", the rise of the validation loss since its best epoch over its fall until then.
    Threshold: ≥ 0.05, where the cost has no penalty and the model no ``Dropout``. What the rerun has to show is that a
    penalty or dropout gives a lower validation loss than stopping at the best epoch.

    When it is wrong: more data, augmentation or a smaller network may be the only remedy; weight decay inside of the
    optimizer is not seen.
    """
    name, statistic = "lack of regularization", "rise of the validation loss over its fall"
    rows = overfits(run)
    if not rows or run.cost.penalty is not None or holds(run.cost.model, Dropout):
        return []
    sentence = "The run overfits, with no penalty on the weights and no dropout to hold it back."
    return [found(name, statistic, rows[0].value, "suspected", sentence, window=rows[0].window, remedy=STRONGER)]
