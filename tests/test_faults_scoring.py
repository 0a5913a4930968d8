"""Scores of the benchmark on findings whose scores are known, and the rules of other tools on made-up runs."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.faults.other_rules import Trace, autotrainer
from experiments.faults.scoring import HEALTHY, Case, Finding, as_if_sure, confusion, finding, scores
from fnnet.diagnosis import Report, Verdict


def case(fault: str, base: str = "moons", *accepted: str, layer: str | None = None) -> Case:
    return Case(f"{fault} in {base}", fault, base, "dense", "mild", frozenset(accepted), layer)


RATE = case("rate", "moons", "learning rate too high", layer="0")
FINDINGS = [
    Finding(RATE, ("learning rate too high", "overfits"), layers=("0", None), mended=True),
    Finding(replace(RATE, severity="strong"), ("overfits",), layers=(None,), mended=False),
    Finding(case("rate", "digits", "learning rate too high"), (), ("learning rate too high",)),
    Finding(case(HEALTHY), ("overfits",), layers=(None,)),
    Finding(case(HEALTHY), ()),
    Finding(case("harmless", "moons", "overfits"), (), harm=False),
]


def test_scores_are_the_known_ones() -> None:
    found = {name: share.value for name, share in scores(FINDINGS).items()}
    assert found == {
        "detection precision": pytest.approx(2 / 3),
        "detection recall": pytest.approx(2 / 3),
        "false alarms per healthy run": pytest.approx(1 / 2),
        "diagnosis precision": pytest.approx(1 / 4),
        "diagnosis recall": pytest.approx(1 / 3),
        "right layer": pytest.approx(1),
        "remedies that mend": pytest.approx(1 / 2),
    }


def test_intervals_are_over_clusters() -> None:
    """A hundred seeds of one cluster tell no more than one; of a hundred clusters they tell much more."""
    one = [Finding(case("f", "moons", "a"), ("a",)), Finding(case("f", "digits", "a"), ())] * 100
    many = [replace(f, case=replace(f.case, base=f"{f.case.base} {i}")) for i, f in enumerate(one)]
    wide, narrow = scores(one)["detection recall"], scores(many)["detection recall"]
    assert (wide.value, wide.low, wide.high, wide.clusters) == (0.5, 0, 1, 2)
    assert narrow.value == 0.5
    assert 0.4 < narrow.low < 0.5 < narrow.high < 0.6


def test_suspicions_count_as_if_they_were_sure() -> None:
    assert scores(list(map(as_if_sure, FINDINGS)))["diagnosis recall"].value == pytest.approx(2 / 3)


def test_confusion_counts_sure_verdicts() -> None:
    rows, columns, table = confusion(FINDINGS)
    assert rows == ["rate", "harmless", HEALTHY]
    assert columns == ["learning rate too high", "overfits", "none"]
    np.testing.assert_array_equal(table, [[1, 2, 1], [0, 0, 1], [0, 1, 1]])


def test_symptoms_are_no_verdicts_of_their_own() -> None:
    def verdict(name: str, certainty: str, *explains: str) -> Verdict:
        return Verdict(name, certainty, "", "", 1.0, 0.0, (0.0, 0.0), explains=explains)  # type: ignore[arg-type]

    report = Report((verdict("cause", "exact", "symptom"), verdict("symptom", "confirmed"), verdict("hint", "note")))
    found = finding(RATE, report)
    assert (found.sure, found.symptoms, found.others) == (("cause",), ("symptom",), ("hint",))


def test_other_tools_complain_where_their_rules_say() -> None:
    epochs, ones = 10, np.ones((10, 2))
    healthy = Trace(
        loss=np.linspace(2, 0.1, epochs),
        validation_loss=np.linspace(2, 0.1, epochs),
        accuracy=np.linspace(0.1, 0.9, epochs),
        validation_accuracy=np.linspace(0.1, 0.9, epochs),
        gradient_norm=ones,
        gradient_mean=0.01 * ones,
        gradient_zero=np.zeros(epochs),
        largest_weight=np.ones(epochs),
        variance=0.1 * ones,
        update_ratio=0.1 * ones,
        not_positive=0.5 * ones,
        beyond_5=0 * ones,
        inactive=0 * ones,
        saturated=0 * ones,
    )
    setup = None  # of which these rules look at nothing but the labels
    assert autotrainer(setup, healthy) == []  # type: ignore[arg-type]
    sick = healthy._replace(gradient_norm=np.tile([1e-6, 1.0], (epochs, 1)), gradient_zero=np.full(epochs, 0.8))
    assert autotrainer(setup, sick) == ["vanishing gradient", "dying ReLU"]  # type: ignore[arg-type]
    turning = healthy._replace(accuracy=np.tile([0.5, 0.7], epochs // 2))
    assert autotrainer(setup, turning) == ["oscillating loss"]  # type: ignore[arg-type]
