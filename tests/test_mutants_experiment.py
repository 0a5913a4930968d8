"""The checker finds every broken rule, and passes every healthy one."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import mutants
from experiments.mutations import CHECKERS, MUTANTS, Mutant, Point, Subject, attention
from experiments.mutations.checkers import pullback, value, variables_of

SUBJECTS = list(dict.fromkeys(mutant.subject for mutant in MUTANTS))
by_fnnet = CHECKERS[mutants.OURS]


def gradient(subject: Subject, point: Point) -> list[Any]:
    """Return the hand-written gradient in float64, of a random cotangent where the output is no scalar."""
    with jax.enable_x64(True):
        point = point.in_dtype(jnp.float64)
        variables = variables_of(subject, point)
        y = value(subject, variables, point)
        dy = jnp.asarray(np.random.default_rng(99).standard_normal(y.shape) if y.shape else 1.0)
        return [np.asarray(g) for g in jax.tree.leaves(pullback(subject, variables, point, dy))]


def difference(broken: list[Any], healthy: list[Any]) -> float:
    """Return ``max |m − a| / max |a|`` over the whole gradient, infinity where a number is NaN."""
    scale = max(np.abs(a).max() for a in healthy)
    return float(
        max(np.nan_to_num(np.abs(m - a) / scale, nan=np.inf).max() for m, a in zip(broken, healthy, strict=True))
    )


def test_there_are_enough_and_each_has_its_name() -> None:
    assert len(MUTANTS) >= 100
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({subject.name for subject in SUBJECTS}) == len(SUBJECTS)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_healthy_rules_pass_and_mutants_are_killed(subject: Subject) -> None:
    """At one point; the experiment takes more. A mutant that breaks nothing would live."""
    point = subject.at(0)
    assert not by_fnnet(subject, point)
    healthy = gradient(subject, point)
    for mutant in MUTANTS:
        if mutant.subject == subject:
            with mutant.applied():
                assert by_fnnet(subject, point), f"{mutant.name} lives"
    assert difference(gradient(subject, point), healthy) == 0, "a table was not restored"


@pytest.mark.parametrize("subject", [attention.PLAIN, attention.CAUSAL, attention.ROTARY], ids=lambda s: s.name)
def test_attention_written_anew_is_healthy(subject: Subject) -> None:
    """What the checker finds in the mutants is then their fault, and not that of the way they are written."""
    point = subject.at(0)
    healthy = gradient(subject, point)
    with attention.mutant("none", subject, attention.plainly()).applied():
        assert difference(gradient(subject, point), healthy) < 1e-13


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_tables_are_restored_even_after_an_error(mutant: Mutant) -> None:
    healthy = dict(mutant.table)
    with contextlib.suppress(ArithmeticError), mutant.applied():
        assert mutant.table != healthy
        raise ArithmeticError
    assert mutant.table == healthy


@pytest.mark.parametrize("name", ["dense: sign of dw", "MultiHeadAttention: the last step forgotten"])
@pytest.mark.parametrize("checker", CHECKERS.values(), ids=CHECKERS)
def test_every_checker_finds_a_gross_fault(checker: Callable[[Subject, Point], bool], name: str) -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == name)
    point = mutant.subject.at(seed=0)
    assert not checker(mutant.subject, point)
    with mutant.applied():
        assert checker(mutant.subject, point)


class TestExperiment:
    @pytest.fixture
    def config(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> mutants.Config:
        monkeypatch.setattr(mutants, "MUTANTS", MUTANTS[:3])
        return mutants.Config(seeds=2, mutant_seeds=1, runs=tmp_path)

    def test_rates_are_printed_and_kept(self, config: mutants.Config, capsys: pytest.CaptureFixture[str]) -> None:
        assert mutants.run(config) == 0
        assert "every mutant killed, no false alarm" in " ".join(capsys.readouterr().out.split())
        (folder,) = (config.runs / "mutants").iterdir()
        assert {path.name for path in folder.iterdir()} == {"config.json", "metrics.jsonl", "summary.md"}
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == len(CHECKERS) * (2 + 3)
        assert "| kill rate over 3 mutants | 100.0 % |" in (folder / "summary.md").read_text()

    @pytest.mark.parametrize("verdict", [True, False], ids=["flags all", "flags none"])
    def test_a_useless_checker_fails(
        self, config: mutants.Config, verdict: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(CHECKERS, mutants.OURS, lambda subject, point: verdict)
        assert mutants.run(config) == 1
