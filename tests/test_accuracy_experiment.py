"""The accuracy experiment: its promises hold, its measure and its truths are right, and it misses no function."""

import json
import math
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import accuracy
from experiments.cli import ExperimentError
from experiments.truth import battery, exact
from experiments.truth.activations import elementwise
from experiments.truth.battery import Batch
from experiments.truth.exact import mp, ulps
from experiments.truth.measure import exact_target, measure, truth_at
from experiments.truth.subjects import Subject, subjects
from fnnet import activations, losses
from fnnet.backprop import ACTIVATION_RULES, PENALTY_GRADIENTS, ActivationRule
from fnnet.binding import unbind

SUBJECTS = {subject.name: subject for subject in subjects()}
ULP = 2.0**-23  # at 1


@pytest.mark.parametrize("name", SUBJECTS)
def test_promises_hold(name: str) -> None:
    row = measure(SUBJECTS[name])
    assert row.ok, row


class TestMeasure:
    @pytest.mark.parametrize(
        ("computed", "truth", "expected"),
        [
            (1.0, "1", 0),
            (1 + ULP, "1", 1),
            (1 - ULP, "1", 1),  # two float32 numbers below 1, whose spacing there is half
            (1.0, str(1 + ULP / 2), 0.5),
            (-3.0, "3", 6 / (2 * ULP)),
            (1e-10, "0", 1e-10 / 2.0**-149),
            (0.0, "1e-38", 0),  # flushed
            (0.0, "1.2e-38", 1.2e-38 / 2.0**-149),  # not subnormal: lost
            (2.0**-149, "1e-60", 1),
            (math.inf, "3.5e38", 0),
            (math.inf, "1e1000", 0),
            (battery.LARGEST, "1e1000", 1),
            (-math.inf, "1e1000", 2.0**25),
            (math.inf, "inf", 0),
            (battery.LARGEST, "inf", math.inf),
            (math.nan, "1", math.inf),
            (math.nan, "inf", math.inf),
        ],
    )
    def test_ulps(self, computed: float, truth: str, expected: float) -> None:
        assert ulps(computed, mp.mpf(truth)) == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("x", [1.0, 0.1, 1.5e-38, 7e30, 2.0**-126])
    def test_spacing_is_numpys(self, x: float) -> None:
        assert exact.spacing(-x) == exact.spacing(x) == np.spacing(np.float32(x))

    def test_opposite_signs(self) -> None:
        assert exact.opposite(1.0, mp.mpf(-1))
        assert not exact.opposite(0.0, mp.mpf(-1))
        assert not exact.opposite(math.nan, mp.mpf(-1))


class TestCatches:
    """The measure is not blind: what is broken on purpose is found, and where it is broken."""

    def test_cancelling_derivative(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def backward(z, da):  # type: ignore[no-untyped-def]
            return da * (1 - activations.sigmoid(-z))  # is σ(z), but for small ones of no digits

        rule = ActivationRule(ACTIVATION_RULES[activations.softplus].forward, backward)
        monkeypatch.setitem(ACTIVATION_RULES, activations.softplus, rule)
        row = measure(SUBJECTS["softplus"])
        assert not row.ok
        assert row.excess.ulps > 1e6
        assert row.excess.at.startswith("−")
        assert row.nan == row.wrong_sign == 0

    def test_cancelling_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def cancelling(z):  # type: ignore[no-untyped-def]
            return jnp.exp(z) - 1

        monkeypatch.setitem(ACTIVATION_RULES, cancelling, ACTIVATION_RULES[activations.elu])
        below = [Batch(np.array([[-1e-10], [-1e-3], [-1.0]], np.float32))]
        elu = SUBJECTS["elu"]._replace(batches=below)
        assert measure(elu).value.ulps < 4
        broken = measure(elu._replace(function=cancelling)).value
        assert broken.ulps > 1e6
        assert broken.at == "−1e−10"

    def test_nan(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rule = ActivationRule(
            lambda z: (activations.sigmoid(z), z), lambda z, da: da * jnp.exp(z) / (1 + jnp.exp(z)) ** 2
        )
        monkeypatch.setitem(ACTIVATION_RULES, activations.sigmoid, rule)
        row = measure(SUBJECTS["sigmoid"])
        assert row.nan > 0
        assert not row.ok

    def test_wrong_sign(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rule = ActivationRule(lambda z: (activations.tanh(z), z), lambda z, da: -da / jnp.cosh(z) ** 2)
        monkeypatch.setitem(ACTIVATION_RULES, activations.tanh, rule)
        row = measure(SUBJECTS["tanh"])
        assert row.wrong_sign > 0
        assert not row.ok


class TestTruths:
    @pytest.mark.parametrize("name", SUBJECTS)
    def test_fifty_digits_are_enough(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """With twice as many the truth is the same, to far below an ulp."""
        subject = SUBJECTS[name]
        for x, target in inputs_of(subject)[::3]:
            coarse = truth_at(subject, x, target)
            with monkeypatch.context() as patch:
                patch.setattr(mp, "dps", 100)
                fine = truth_at(subject, x, target)
                for a, b in zip(chain(*coarse), chain(*fine), strict=True):
                    assert a == b or abs(a - b) <= 1e-9 * max(abs(b), exact.SMALLEST_NORMAL), (x, target, a, b)

    @pytest.mark.parametrize("name", SUBJECTS)
    def test_derivatives_are_those_of_the_values(self, name: str) -> None:
        """By differences of 50 digits, at ordinary inputs."""
        subject = SUBJECTS[name]
        ordinary = [(x, y) for x, y in inputs_of(subject) if (np.abs(x) < 8).all() and (x % 0.25 != 0).all()]
        assert ordinary
        for x, target in ordinary[-4:]:
            point = [exact.exact(z) for z in x]
            targets = () if target is None else (exact_target(target),)
            outputs, derivatives = subject.truth(point, *targets)
            for i, j in np.ndindex(len(outputs), len(point)):
                place = [int(j == k) for k in range(len(point))]
                slope = mp.diff(lambda *z: subject.truth(list(z), *targets)[0][i], tuple(point), tuple(place))  # noqa: B023
                assert abs(slope - derivatives[i][j]) < 1e-15 * (1 + abs(slope))

    @pytest.mark.parametrize("name", elementwise())
    @pytest.mark.parametrize("far", [-1e9, 1e9])
    def test_limits_are_approached(self, name: str, far: float) -> None:
        truth = elementwise()[name]
        (limit,), ((slope,),) = truth([mp.inf if far > 0 else -mp.inf])
        (value,), ((derivative,),) = truth([mp.mpf(far)])
        assert abs(derivative - slope) < 1e-8
        assert abs(value - limit) < 1e-8 if abs(limit) < mp.inf else value * limit > 0 and abs(value) > 1e6


class TestCoverage:
    @pytest.mark.parametrize("module", [activations, losses])
    def test_every_public_name_has_a_row(self, module: ModuleType) -> None:
        measured = {unbind(subject.function)[0] for subject in SUBJECTS.values()}
        assert [name for name in module.__all__ if getattr(module, name) not in measured] == []

    def test_every_penalty_has_a_row(self) -> None:
        assert {type(subject.function) for subject in SUBJECTS.values()} >= set(PENALTY_GRADIENTS)

    def test_both_forms_of_gelu(self) -> None:
        assert {"gelu", "gelu(approximate=True)"} <= set(SUBJECTS)

    def test_names_are_unique(self) -> None:
        assert len(SUBJECTS) == len(subjects())

    def test_labels_distributions_one_class_and_no_example(self) -> None:
        shapes = {
            (batch.inputs.shape[0] == 0, batch.inputs.shape[1], batch.target.ndim) for batch in battery.CLASS_LOGITS
        }
        assert shapes >= {(False, 3, 1), (False, 3, 2), (False, 1, 1), (False, 1, 2), (True, 3, 2)}


class TestExperiment:
    def test_leaves_a_table_and_succeeds(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert accuracy.run(accuracy.Config(only="relu", runs=tmp_path)) == 0
        (folder,) = (tmp_path / "accuracy").iterdir()
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [line["name"] for line in lines] == ["leaky_relu", "relu"]
        assert "| relu | " in (folder / "summary.md").read_text(encoding="utf-8")
        assert "relu" in " ".join(capsys.readouterr().out.split())

    def test_broken_promise_is_a_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rule = ActivationRule(ACTIVATION_RULES[activations.relu].forward, lambda off, da: jnp.where(off, 0, -da))
        monkeypatch.setitem(ACTIVATION_RULES, activations.relu, rule)
        assert accuracy.run(accuracy.Config(only="relu", runs=tmp_path)) == 1

    def test_unknown_function_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ExperimentError, match=r"no function has 'rellu' in its name; there are .*relu"):
            accuracy.run(accuracy.Config(only="rellu", runs=tmp_path))


def inputs_of(subject: Subject) -> list[tuple[Any, Any]]:
    return [
        (x, None if batch.target is None else batch.target[n])
        for batch in subject.batches
        for n, x in enumerate(batch.inputs)
    ]
