"""Verdicts on the units of a network, seen on a probe set that is the same for the whole run."""

from __future__ import annotations

import numpy as np

from fnnet.activations import leaky_relu
from fnnet.diagnosis.changes import Change
from fnnet.diagnosis.evidence import Evidence
from fnnet.diagnosis.report import Certainty, NotLookedAt, Verdict
from fnnet.diagnosis.thresholds import bound, found
from fnnet.layers import Activation
from fnnet.layers.nesting import nested


def relus_die(run: Evidence) -> list[Verdict]:
    """Units of a layer are 0 for every example, and no gradient comes through them that could bring them back.

    Statistic: the share of the units (channels) of an ``Activation`` that are 0 for all examples of the probe set, at
    the last look. Thresholds: ≥ 0.5 where the share has risen by ≥ 0.25 since the start, or ≥ 1, the whole layer. It is
    exact where the whole layer is dead, was not at the start, and the output of the network is the same for all
    examples of the probe set: it cannot depend on its input any more.

    Measured: units dead for all of 256 examples reach 0.75 at a healthy start in 8 layers of 8 units, so an absolute
    bound (SageMaker: 50 %) is wrong there. DeepDiagnosis counts entries at 0, and flags 36 of 78 healthy networks.

    When it is wrong: the probe set may be too small to excite a rare unit; a sparse code by an L1 penalty is one on
    purpose. Leaky units cannot die.
    """
    name = "ReLUs die"
    watched = run.watch()
    verdicts = []
    for path, shares in of_activations(run, "dead"):
        now, start = float(shares[-1]), float(shares[0])
        whole = now >= bound(name, "share of a dead layer")
        risen = now >= bound(name, "share of dead units") and now - start >= bound(name, "rise")
        if not whole and not risen:
            continue
        constant = "spread" in watched.looks and watched.looks["spread"][-1] == 0
        certainty: Certainty = "exact" if whole and start < 1 and constant else "suspected"
        first = int(np.argmax(shares >= max(now / 2, start + (now - start) / 2)))
        steps = watched.looks["step"]
        verdicts.append(
            found(
                name,
                "share of dead units",
                now,
                certainty,
                f"In layer {path}, {now:.0%} of the units are 0 for every example; at the start it was {start:.0%}.",
                layer=path,
                window=(int(steps[max(first - 1, 0)]), int(steps[-1])),
                evidence={"dead": shares.tolist()},
                remedy=(
                    Change("learning_rate", "scale", 0.1),
                    Change(f"model.{path}", "replace", Activation(leaky_relu)),
                    Change("params", "draw"),
                ),
            )
        )
    return verdicts


def units_are_saturated(run: Evidence) -> list[Verdict]:
    """Units sit where their activation function is flat, so that the layers before them get no gradient.

    Statistic: the share of the units with ``|f'(z)| < 0.05 max|f'|`` on at least 95 % of the probe set, at the last
    look. Threshold: > 0.5, where a layer before it has a ``reach`` < 0.01 and ``λ`` > 0.1.

    Measured at healthy starts: at most 0.11 of the entries of tanh beyond 0.97.

    When it is wrong: gates of trained recurrent cells are saturated on purpose and are not looked at; a trained network
    that separates its classes well is saturated, which is why ``λ`` and the layers before it must suffer, too. ReLUs
    that are off are not counted here, but as dead.
    """
    name = "units are saturated"
    watched = run.watch()
    if not run.late_training > bound(name, "lambda"):
        return []
    layers, reach = watched.reach(looks=True) if "gradient_norm" in watched.looks else ([], np.zeros((1, 0)))
    order = [path for path, _ in nested(run.cost.model)]
    verdicts = []
    dead = dict(of_activations(run, "dead"))
    for path, shares in of_activations(run, "saturated"):
        now = float(shares[-1]) - float(np.nan_to_num(dead[path][-1]))
        below = [
            float(reach[-1, i])
            for i, layer in enumerate(layers)
            if layer in order and order.index(layer) < order.index(path) and np.isfinite(reach[-1, i])
        ]
        if not now > bound(name, "share of saturated units") or not min(below, default=1) < bound(name, "reach below"):
            continue
        sentence = f"In layer {path}, {now:.0%} of the units are where their function is flat, for most examples."
        remedy = (Change("inputs", "standardize"), Change("params", "scale", 0.3), Change("params", "draw"))
        steps = watched.looks["step"]
        verdicts.append(
            found(
                name,
                "share of saturated units",
                now,
                "suspected",
                sentence,
                layer=path,
                window=(int(steps[0]), int(steps[-1])),
                evidence={"saturated": shares.tolist(), "least reach below": min(below)},
                remedy=remedy,
            )
        )
    return verdicts


def stuck_at_the_constant(run: Evidence) -> list[Verdict]:
    """The network gives the same answer for every example, the best one that there is without looking: a symptom.

    Statistic: how much of the output depends on the example, at the last look. With labels it is the mutual information
    of input and prediction, ``H(mean p) − mean H(p)``, over ``H₀``. Threshold: < 0.01. For regression it is the
    variance of the output over that of the target. Threshold: < 0.001. In both cases ``λ`` of the training examples
    lies from 0.98 to 1.05, after the first epoch.

    When it is wrong: hard tasks begin so (the adding problem stays there for epochs), so it is never more than
    suspected; a cause that a rerun confirms explains it.
    """
    name = "stuck at the constant"
    watched = run.watch()
    if len(watched.looks["step"]) < 2:
        raise NotLookedAt("the run has made no epoch")
    excess, spread = run.late_training, float(watched.looks["spread"][-1])
    if not bound(name, "least lambda") <= excess <= bound(name, "largest lambda"):
        return []
    labels = bool(watched.facts["labels"])
    statistic = "mutual information over H0" if labels else "variance of the output over that of the target"
    value = spread / abs(watched.facts["probe_bounds"][0]) if labels else spread
    if not value < bound(name, statistic):
        return []
    sentence = "The network gives nearly the same answer for every example: what it has learned is the mean."
    window = int(watched.looks["step"][0]), int(watched.looks["step"][-1])
    return [found(name, statistic, value, "suspected", sentence, window=window)]


def of_activations(run: Evidence, name: str) -> list[tuple[str, np.ndarray]]:
    """Return ``(path, (E,))`` of a signal, for each ``Activation``."""
    watched = run.watch()
    paths = watched.facts["activations"]
    if not paths:
        raise NotLookedAt("the model has no Activation layer that could be seen")
    values = np.asarray(watched.looks[name])
    return [(path, values[:, watched.facts["layers"].index(path)]) for path in paths]
