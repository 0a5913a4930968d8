"""The thresholds of all verdicts, in one table, each with the range of healthy runs and its source."""

from __future__ import annotations

from typing import Any, NamedTuple

from fnnet.diagnosis.report import EXPLANATIONS, Certainty, Verdict


class Threshold(NamedTuple):
    """A bound of a statistic.

    ``source`` names the paper, the measurement or the derivation that the bound comes from. ``healthy`` is the range
    that the statistic had in healthy runs there, or has by its definition. A ``PROPOSAL`` is not measured yet, and has
    none.
    """

    value: float
    healthy: tuple[float, float] | None
    source: str


PROPOSAL = "proposal"

STEPS_MEASURED = "27 learning rates with sgd, momentum and adam on digits and moons"

# By "verdict: statistic". A verdict that has several bounds has several entries.
THRESHOLDS: dict[str, Threshold] = {
    # Before training.
    "output cannot express the targets: (F − L*)/(H₀ − L*)": Threshold(
        0.02, (0.0, 0.001), "0 where they can be reached"
    ),
    "loss is flat where the output is most wrong: median ‖∂loss/∂v‖ at 8 over that at 0": Threshold(
        0.05, (0.9, 2.0), "cross-entropies have 1 to 2, the squared error after sigmoid 1e-3"
    ),
    "loss at the start is not that of knowing nothing: λ₀, at most": Threshold(
        4.0, (0.64, 3.22), "1,350 healthy dense networks"
    ),
    "loss at the start is not that of knowing nothing: λ₀, at least": Threshold(
        0.5, (0.64, 3.22), "1,350 healthy dense networks"
    ),
    "inputs are not scaled: r, at most": Threshold(5.0, (0.2, 1.5), "digits from 0 to 16 have 11"),
    "inputs are not scaled: r, at least": Threshold(0.05, (0.2, 1.5), "digits over 255² have 1e-4"),
    "inputs are not scaled: max σ / median σ": Threshold(30.0, None, PROPOSAL),
    "inputs are not scaled: max |μ|/σ": Threshold(10.0, None, PROPOSAL),
    "targets are not scaled: |mean y| / std y": Threshold(10.0, None, PROPOSAL),
    "targets are not scaled: std y, at most": Threshold(20.0, None, PROPOSAL),
    "targets are not scaled: std y, at least": Threshold(0.05, None, PROPOSAL),
    "constant or copied features: share of features with σ = 0": Threshold(0.5, None, PROPOSAL),
    "constant or copied features: copied features": Threshold(0.0, (0.0, 0.0), "a count"),
    "labels do not depend on the inputs: larger z of two permutation tests": Threshold(
        3.0, (7.0, 100.0), "nine data sets, 128 examples of each"
    ),
    "rows occur in training and test: share of the validation rows": Threshold(0.01, None, PROPOSAL),
    "rows occur in training and test: share over that within training": Threshold(3.0, None, PROPOSAL),
    "a feature gives the answer away: what the feature alone knows": Threshold(0.999, None, PROPOSAL),
    "a feature gives the answer away: what all others know": Threshold(0.95, None, PROPOSAL),
    "classes are unbalanced: max n / min n": Threshold(10.0, (1.0, 10.0), "Amazon SageMaker Debugger, ClassImbalance"),
    "classes are unbalanced: classes without examples": Threshold(0.0, (0.0, 0.0), "a count"),
    "data are sorted and not shuffled: z of the number of runs": Threshold(-5.0, (-3.0, 3.0), "a normal number"),
    "units start identical: share of units equal to another": Threshold(0.0, (0.0, 0.0), "equal units stay equal"),
    "a layer is dead at the start: share of units that are 0 for all examples": Threshold(
        1.0, (0.0, 0.75), "8 layers of 8 units"
    ),
    "a layer is dead at the start: that of a wide layer": Threshold(0.9, (0.0, 0.4), "1,350 healthy dense networks"),
    "signal dies on the way in: vary, at least": Threshold(0.01, (0.013, 1.0), "two sigmoid layers have 0.013"),
    "signal dies on the way in: gain, at most": Threshold(3.0, (0.5, 1.5), "weights of variance 1/D to 2/D"),
    "signal dies on the way in: gain, at least": Threshold(0.2, (0.5, 1.5), "weights of variance 1/D to 2/D"),
    "the gradient does not reach a layer: reach": Threshold(1e-3, (0.022, 1.0), "1,350 healthy dense networks"),
    "a parameter is not connected: number of parameters": Threshold(0.0, (0.0, 0.0), "the program is read"),
    "the network is an affine map: rms(f((x + x')/2) − (f(x) + f(x'))/2) / rms(f(x) − f(x'))": Threshold(
        1e-5, (8.5e-5, 1.0), "affine networks have 1e-7"
    ),
    "examples of a batch mix: largest change of the outputs for other examples": Threshold(
        0.0, (0.0, 0.0), "nothing else changes"
    ),
    "a step sees the future: largest change of the outputs before the changed inputs": Threshold(
        1e-4, (0.0, 1e-6), "above rounding"
    ),
    "evaluation is random: largest difference of the outputs with two keys": Threshold(0.0, (0.0, 0.0), "bit for bit"),
    "train mode differs: |L_train − L_eval| / L_eval": Threshold(0.5, (0.0, 0.5), "TheDeepChecker"),
    "one batch cannot be learned: λ of 16 examples after training": Threshold(0.05, (0.0, 0.02), "90 healthy networks"),
    "learning rate out of range: rate over the best, at most": Threshold(3.0, None, PROPOSAL),
    "learning rate out of range: rate over the best, at least": Threshold(1 / 30, None, PROPOSAL),
    "learning rate out of range: λ over the best": Threshold(0.2, None, PROPOSAL),
    # In flight and after the run.
    "not finite: epochs whose cost is not finite": Threshold(0, (0, 0), "any is one too many"),
    "diverges: loss over that of the start": Threshold(3, (0, 1), "a constant has 1; TheDeepChecker, AUTOTRAINER"),
    "diverges: loss over its least": Threshold(2, (1, 2), "TheDeepChecker, settings.yaml"),
    "diverges: lambda": Threshold(0.5, None, PROPOSAL),
    "learning rate too high: share of the first steps with rho < 0": Threshold(0.3, (0, 0.09), STEPS_MEASURED),
    "learning rate too high: largest early cost over the first": Threshold(3, None, PROPOSAL),
    "learning rate too high: median rho": Threshold(0.2, (0.36, 0.73), STEPS_MEASURED),
    "learning rate too low: median rho": Threshold(0.97, (0.36, 0.88), STEPS_MEASURED),
    "learning rate too low: lambda": Threshold(0.3, None, PROPOSAL),
    "learning rate too low: predicted fall of lambda over the run": Threshold(0.05, (0.7, 10), "first order"),
    "a layer stands still: travel of an epoch": Threshold(1e-5, None, PROPOSAL),
    "a layer stands still: travel over the largest": Threshold(1e-3, None, PROPOSAL),
    "a layer stands still: share of lost entries": Threshold(0.5, None, PROPOSAL),
    "gradients vanish: reach": Threshold(1e-3, (0.022, 1), "1350 healthy networks at their start"),
    "gradients vanish: reach over that of the start": Threshold(0.05, None, PROPOSAL),
    "gradients vanish: lambda": Threshold(0.1, None, PROPOSAL),
    "gradients explode: third largest gradient over the median before it": Threshold(100, None, PROPOSAL),
    "noise rules: batch size over noise scale": Threshold(0.05, (0.05, 100), "McCandlish et al. 2018, section 2.2"),
    "noise rules: lambda": Threshold(0.1, None, PROPOSAL),
    "optimizer's ε rules: share of entries below epsilon": Threshold(0.5, None, PROPOSAL),
    "optimizer's ε rules: lambda": Threshold(0.1, None, PROPOSAL),
    "every gradient is clipped: share of clipped steps": Threshold(0.95, None, PROPOSAL),
    "loss spikes: share of steps above median + 10 MAD": Threshold(0.01, None, PROPOSAL),
    "loss spikes: lambda": Threshold(0.1, None, PROPOSAL),
    "at the edge of stability: sharpness over its limit": Threshold(0.9, (0, 0.9), "Cohen et al. 2021, section 3"),
    "rate decayed too early: share of the rate spent in the first half": Threshold(0.95, None, PROPOSAL),
    "rate decayed too early: lambda": Threshold(0.1, None, PROPOSAL),
    "rate still too high at the end: median rho of the last tenth": Threshold(0.3, (0.36, 0.73), STEPS_MEASURED),
    "ReLUs die: share of dead units": Threshold(0.5, (0, 0.5), "1350 healthy networks at their start"),
    "ReLUs die: rise": Threshold(0.25, None, PROPOSAL),
    "ReLUs die: share of a dead layer": Threshold(1, (0, 0.75), "1350 healthy networks at their start"),
    "units are saturated: share of saturated units": Threshold(0.5, (0, 0.11), "1350 healthy networks at their start"),
    "units are saturated: reach below": Threshold(0.01, (0.022, 1), "1350 healthy networks at their start"),
    "units are saturated: lambda": Threshold(0.1, None, PROPOSAL),
    "stuck at the constant: mutual information over H0": Threshold(0.01, None, PROPOSAL),
    "stuck at the constant: variance of the output over that of the target": Threshold(1e-3, None, PROPOSAL),
    "stuck at the constant: least lambda": Threshold(0.98, (0, 0.98), "a constant has 1"),
    "stuck at the constant: largest lambda": Threshold(1.05, (0, 0.98), "a constant has 1"),
    "memory does not reach back: horizon over the length": Threshold(0.25, (0.25, 1), "Pascanu et al. 2013"),
    "memory does not reach back: lambda": Threshold(0.5, None, PROPOSAL),
    "state explodes through time: largest norm over the last": Threshold(1e3, (1, 100), "Pascanu et al. 2013"),
    "state explodes through time: lambda": Threshold(0.1, None, PROPOSAL),
    "a penalty rules: push of the penalty against the loss": Threshold(0.7, (0, 0.5), "1 at every stationary point"),
    "a penalty rules: norm of the parameters over that of the start": Threshold(0.1, None, PROPOSAL),
    "a penalty rules: lambda": Threshold(0.3, None, PROPOSAL),
    "a penalty rules: fall of lambda": Threshold(0.02, None, PROPOSAL),
    "lack of regularization: rise of the validation loss over its fall": Threshold(0.05, (0, 0.05), "as overfits"),
    "overfits: rise of the validation loss over its fall": Threshold(0.05, None, PROPOSAL),
    "overfits: z of the losses": Threshold(3, (-3, 3), "a normal number is larger in one of 741 cases"),
    "overfits: epochs after the best": Threshold(3, None, PROPOSAL),
    "memorizes without learning: least lambda of the validation examples": Threshold(
        0.99, (0, 0.98), "a constant has 1"
    ),
    "memorizes without learning: lambda of the training examples": Threshold(0.8, None, PROPOSAL),
    "memorizes without learning: z of the difference": Threshold(3, (-3, 3), "a normal number: one of 741 cases"),
    "a class is not learned: least recall": Threshold(0, None, PROPOSAL),
    "a class is not learned: examples of the class": Threshold(20, (20, 20), "0.8 ** 20 is 0.01"),
    "a class is not learned: accuracy over the largest class": Threshold(1.2, None, PROPOSAL),
    "underfits: too small: error above that of the neighbours": Threshold(0.1, None, PROPOSAL),
    "underfits: too small: fall of lambda per tenth of the run": Threshold(0.01, None, PROPOSAL),
    "stopped too early: predicted fall of lambda": Threshold(0.1, (0, 0.1), "tuning playbook"),
    "stopped too early: lambda": Threshold(0.02, None, PROPOSAL),
    "validation better than training: z of the difference": Threshold(3, (-3, 3), "a normal number: one of 741 cases"),
    "validation better than training: lambda": Threshold(0.05, None, PROPOSAL),
    "training and test differ: z of the two-sample test": Threshold(5, (-3, 3), "Lopez-Paz and Oquab 2017"),
    # Reruns.
    "rerun: z": Threshold(3.0, (-3.0, 3.0), "a normal number is larger in one of 741 cases"),
    "rerun: effect": Threshold(0.1, (-1.0, 0.1), "a tenth of the excess loss"),
    "rerun: z over the sham": Threshold(2.0, (-2.0, 2.0), "a normal number is larger in one of 44 cases"),
}


def bound(name: str, statistic: str) -> float:
    """Return the threshold of a statistic of the verdict of this name."""
    return THRESHOLDS[f"{name}: {statistic}"].value


def found(name: str, statistic: str, value: float, certainty: Certainty, sentence: str, **more: Any) -> Verdict:
    """Return the verdict of this name, with the threshold of one of its statistics; ``more`` are fields of it."""
    limit = THRESHOLDS[f"{name}: {statistic}"]
    explained = EXPLANATIONS.get(name, ())
    return Verdict(
        name, certainty, sentence, statistic, float(value), limit.value, limit.healthy, explains=explained, **more
    )
