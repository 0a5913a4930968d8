"""The thresholds of all verdicts, in one table, each with the range of healthy runs and its source."""

from __future__ import annotations

from typing import NamedTuple


class Threshold(NamedTuple):
    """A bound of a statistic.

    ``healthy`` is the range that the statistic had in the healthy runs of ``experiments/faults`` or of the source.
    ``source`` names the paper, the measurement or the derivation that the bound comes from.
    """

    value: float
    healthy: tuple[float, float]
    source: str


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
    "inputs are not scaled: max σ / median σ": Threshold(30.0, (1.0, 10.0), "proposed"),
    "inputs are not scaled: max |μ|/σ": Threshold(10.0, (0.0, 5.0), "proposed"),
    "targets are not scaled: |mean y| / std y": Threshold(10.0, (0.0, 2.0), "proposed"),
    "targets are not scaled: std y, at most": Threshold(20.0, (0.5, 2.0), "proposed"),
    "targets are not scaled: std y, at least": Threshold(0.05, (0.5, 2.0), "proposed"),
    "constant or copied features: share of features with σ = 0": Threshold(0.5, (0.0, 0.1), "proposed"),
    "constant or copied features: copied features": Threshold(0.0, (0.0, 0.0), "a count"),
    "labels do not depend on the inputs: larger z of two permutation tests": Threshold(
        3.0, (7.0, 100.0), "nine data sets, 128 examples of each"
    ),
    "rows occur in training and test: share of the validation rows": Threshold(0.01, (0.0, 0.01), "proposed"),
    "rows occur in training and test: share over that within training": Threshold(3.0, (0.0, 1.5), "proposed"),
    "a feature gives the answer away: what the feature alone knows": Threshold(0.999, (0.0, 0.98), "proposed"),
    "a feature gives the answer away: what all others know": Threshold(0.95, (0.95, 1.0), "proposed"),
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
    "learning rate out of range: rate over the best, at most": Threshold(3.0, (1 / 30, 3.0), "proposed"),
    "learning rate out of range: rate over the best, at least": Threshold(1 / 30, (1 / 30, 3.0), "proposed"),
    "learning rate out of range: λ over the best": Threshold(0.2, (0.0, 0.2), "proposed"),
    # Reruns.
}
