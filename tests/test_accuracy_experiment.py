"""The accuracy experiment: its promises hold, its measure and truths are right, and it covers every function."""

import json
import math
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import accuracy
from experiments.cli import ExperimentError
from experiments.truth import battery, exact
from experiments.truth.activations import elementwise
from experiments.truth.battery import Batch
from experiments.truth.exact import Sum, largest_of, mp, product, times, units, value_of, with_terms
from experiments.truth.measure import exact_target, excess, measure, truth_at
from experiments.truth.subjects import Subject, subjects
from fnnet import activations, losses
from fnnet.backprop import ACTIVATION_RULES, PENALTY_GRADIENTS, ActivationRule
from fnnet.binding import unbind

SUBJECTS = {subject.name: subject for subject in subjects()}
UNIT = 2.0**-23  # at 1


@pytest.mark.parametrize("name", SUBJECTS)
def test_promises_hold(name: str) -> None:
    row = measure(SUBJECTS[name])
    assert row.ok, row


class TestMeasure:
    @pytest.mark.parametrize(
        ("computed", "truth", "expected"),
        [
            (1.0, "1", 0),
            (1 + UNIT, "1", 1),
            (1 - UNIT, "1", 1),  # two float32 numbers below 1, whose spacing there is half
            (1.0, str(1 + UNIT / 2), 0.5),
            (-3.0, "3", 6 / (2 * UNIT)),
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
    def test_units(self, computed: float, truth: str, expected: float) -> None:
        assert units(computed, mp.mpf(truth)) == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("x", [1.0, 0.1, 1.5e-38, 7e30, 2.0**-126])
    def test_spacing_is_numpys(self, x: float) -> None:
        assert exact.spacing(-x) == exact.spacing(x) == np.spacing(np.float32(x))

    def test_the_unit_is_that_of_the_largest_term(self) -> None:
        """Also where it is the result itself, or a factor multiplies it."""
        assert units(2 * UNIT, with_terms(mp.mpf(0), 1, -1)) == 2
        assert units(1.0, with_terms(mp.mpf(1) + 3 * UNIT, 0.5)) == 3
        assert units(0.5, times(mp.mpf(0.5), with_terms(mp.mpf(1) + 2 * UNIT, 1))) == 2
        assert units(math.inf, Sum(mp.inf, mp.mpf(1))) == 0
        assert largest_of(product(with_terms(mp.mpf(0.25), 1), with_terms(mp.mpf(-3), 5))) == 3

    def test_opposite_signs(self) -> None:
        assert exact.opposite(1.0, mp.mpf(-1))
        assert not exact.opposite(0.0, mp.mpf(-1))
        assert not exact.opposite(math.nan, mp.mpf(-1))
        assert exact.opposite(1e-8, with_terms(mp.mpf(-9 * UNIT), 1))
        assert not exact.opposite(1e-8, with_terms(mp.mpf(-8 * UNIT), 1))

    def test_luck_of_autodiff_is_not_counted(self) -> None:
        assert excess(4.5, 0.5) == excess(4.5, 2.0) == 2.5
        assert excess(4.5, 4.0) == 0.5
        assert excess(1.5, 0.0) == excess(3.0, math.inf) == 0
        assert excess(math.inf, 1.0) == math.inf


class TestCatches:
    """What is broken on purpose is found, and so is the input."""

    def test_cancelling_derivative(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def backward(z, da):  # type: ignore[no-untyped-def]
            return da * (1 - activations.sigmoid(-z))  # equals σ(z), but has no right digit where that is small

        rule = ActivationRule(ACTIVATION_RULES[activations.softplus].forward, backward)
        monkeypatch.setitem(ACTIVATION_RULES, activations.softplus, rule)
        row = measure(SUBJECTS["softplus"])
        assert not row.ok
        assert row.excess.units > 1e6
        assert row.excess.at.startswith("−")
        assert row.nan == row.wrong_sign == 0

    def test_cancelling_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def cancelling(z):  # type: ignore[no-untyped-def]
            return jnp.exp(z) - 1

        monkeypatch.setitem(ACTIVATION_RULES, cancelling, ACTIVATION_RULES[activations.elu])
        below = [Batch(np.array([[-1e-10], [-1e-3], [-1.0]], np.float32))]
        elu = SUBJECTS["elu"]._replace(batches=below)
        assert measure(elu).value.units < 4
        broken = measure(elu._replace(function=cancelling)).value
        assert broken.units > 1e6
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
        """With twice as many the truth is the same, to far below a unit."""
        subject = SUBJECTS[name]
        for x, target in inputs_of(subject)[::3]:
            coarse = truth_at(subject, x, target)
            with monkeypatch.context() as patch:
                patch.setattr(mp, "dps", 100)
                fine = truth_at(subject, x, target)
                for a, b in zip(chain(*coarse), chain(*fine), strict=True):
                    assert value_of(a) == value_of(b) or off(a, b) <= 1e-9, (x, target, a, b)

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
                slope = mp.diff(lambda *z: value_of(subject.truth(list(z), *targets)[0][i]), tuple(point), tuple(place))  # noqa: B023
                assert abs(slope - value_of(derivatives[i][j])) < 1e-15 * (1 + abs(slope))

    @pytest.mark.parametrize("name", elementwise())
    @pytest.mark.parametrize("far", [-1e9, 1e9])
    def test_limits_are_approached(self, name: str, far: float) -> None:
        truth = elementwise()[name]
        (limit,), ((slope,),) = truth([mp.inf if far > 0 else -mp.inf])
        (value,), ((derivative,),) = truth([mp.mpf(far)])
        assert abs(value_of(derivative) - slope) < 1e-8
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
            (batch.inputs.shape[0] == 0, batch.inputs.shape[1], batch.target.ndim)
            for batch in battery.CLASS_PROBABILITIES
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

    def test_writes_the_page(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(accuracy, "PAGE", tmp_path / "accuracy.md")
        assert accuracy.run(accuracy.Config(only="hard_tanh", write=True, runs=tmp_path)) == 0
        page = (tmp_path / "accuracy.md").read_text(encoding="utf-8")
        assert f"on {accuracy.processor()} with jax {jax.__version__}" in page
        assert "| hard_tanh | " in page

    def test_broken_promise_is_a_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rule = ActivationRule(ACTIVATION_RULES[activations.relu].forward, lambda off, da: jnp.where(off, 0, -da))
        monkeypatch.setitem(ACTIVATION_RULES, activations.relu, rule)
        assert accuracy.run(accuracy.Config(only="relu", runs=tmp_path)) == 1

    def test_unknown_function_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ExperimentError, match=r"no function has 'rellu' in its name; there are .*relu"):
            accuracy.run(accuracy.Config(only="rellu", runs=tmp_path))


def off(a: Any, b: Any) -> Any:
    """Return the difference relative to ``b``, or to the smallest normal number."""
    return abs(value_of(a) - value_of(b)) / max(abs(value_of(b)), exact.SMALLEST_NORMAL)


def inputs_of(subject: Subject) -> list[tuple[Any, Any]]:
    return [
        (x, None if batch.target is None else batch.target[n])
        for batch in subject.batches
        for n, x in enumerate(batch.inputs)
    ]
