"""``python -m experiments.benchmarks agreement`` compares the steps with those of PyTorch and optax."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments import cli
from experiments.benchmarks import agreement
from experiments.benchmarks.__main__ import BENCHMARKS
from experiments.benchmarks.agreement_pairs import PAIRS
from tests.public import public_optimizers


def test_optimizers_of_other_libraries_take_the_same_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two hundred steps in float64 agree to 1e-12, and they differ where the table says so."""
    pytest.importorskip("torch")
    output = tmp_path / "agreement.json"
    with jax.numpy_dtype_promotion("standard"):  # optax multiplies integers with Python numbers
        assert cli.main("benchmarks", BENCHMARKS, arguments=["agreement", "--output", str(output)]) == 0
    kept = json.loads(output.read_text())
    assert kept["config"]["steps"] == 200
    assert len(kept["rows"]) == len(PAIRS)
    for row in kept["rows"]:
        assert row["made_equal"] is None or row["made_equal"] <= 1e-12, row
        assert (row["as_defined"] is not None) == bool(row["difference"]), row
        assert row["as_defined"] is None or row["as_defined"] > 1e-10, row
    assert "adamw" in capsys.readouterr().out


def test_every_algorithm_is_compared() -> None:
    names = {function.__name__ for function in public_optimizers()}
    assert {pair.algorithm.split(",")[0] for pair in PAIRS} == names


def test_relative_distance() -> None:
    one, other = {"w": np.array([[1.0, 4.0]])}, {"w": np.array([[1.0, 5.0]])}
    assert agreement.apart(one, other) == pytest.approx(0.2)
    assert agreement.apart({"w": np.array([np.nan])}, {"w": np.array([1.0])}) == np.inf


def test_status_is_1_if_a_difference_is_not_rounding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = agreement.Row("sgd", "torch", None, 1e-9, "")
    monkeypatch.setattr(agreement, "compare", lambda steps, seed: ([wrong], {"optax": "No module named 'optax'"}))
    assert agreement.run(agreement.Config(output=tmp_path / "x.json")) == 1


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(agreement, "PAIRS", PAIRS[:1])
    rows, skipped = agreement.compare(2, 0)
    assert (rows, list(skipped)) == ([], ["torch"])
    console = Console(width=120)
    with console.capture() as capture:
        console.print(agreement.table(rows, skipped))
    assert "torch skipped: " in capture.get()
