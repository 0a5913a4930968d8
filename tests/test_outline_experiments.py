"""The experiments about the structure and the cost of networks."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fnnet
from experiments import cost_of_layers, network
from experiments.results import Results
from fnnet.inspect import operations
from tests.runs import command_line


def test_network(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Results, "figure", lambda self, name, figure: self.figures.append(name))  # another test draws
    assert command_line("network", "--epochs", "1", "--runs", str(tmp_path)) == 0
    (folder,) = (tmp_path / "network").iterdir()
    names = {"start", "start_gradients", "trained", "trained_gradients", "deep_images", "deep_text"}
    assert {path.stem for path in folder.glob("*.svg")} == names
    assert all(f"({name}.png)" in (folder / "summary.md").read_text(encoding="utf-8") for name in names)
    shown = capsys.readouterr().out
    assert "Residual × 9" in shown
    assert "3,555,138 in the outline" in shown


def test_network_fails_if_the_counts_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unchanged(cost: Any, optimizer: Any, params: Any, *arguments: Any, **options: Any) -> Any:
        return SimpleNamespace(state=SimpleNamespace(params=params))

    monkeypatch.setattr(fnnet, "fit", unchanged)
    monkeypatch.setattr(network, "xla_operations", lambda *arguments: 1)
    monkeypatch.setattr(network, "save", lambda *arguments: None)
    monkeypatch.setattr(network, "deep_networks", dict)
    assert network.run(network.Config(epochs=1, hidden=2, runs=tmp_path)) == 1


def test_cost_of_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(layer: Any, params: Any, x: Any, config: Any) -> float:
        return float(x.size)

    monkeypatch.setattr(cost_of_layers, "median_seconds", seconds)
    assert cost_of_layers.run(cost_of_layers.Config(runs=tmp_path)) == 0
    (folder,) = (tmp_path / "cost_of_layers").iterdir()
    summary = (folder / "summary.md").read_text(encoding="utf-8")
    assert "| Dense, width n | 2 | 2.000 | 1.00 | 4,096 | 2.15e+09 |" in summary
    assert "| Attention, steps T | 2 | 1.959 | 1.00 | 4,096 |" in summary
    assert (folder / "cost.png").exists()
    monkeypatch.setattr(Results, "figure", lambda *arguments: None)
    monkeypatch.setattr(cost_of_layers, "operations", lambda *a: operations(*a)._replace(forward=8))  # type: ignore[union-attr]
    assert cost_of_layers.run(cost_of_layers.Config(runs=tmp_path)) == 1


def test_slope_of_a_power_law() -> None:
    x = np.array([2.0, 4.0, 32.0])
    np.testing.assert_allclose(cost_of_layers.slope(x, 7 * x**1.5), 1.5)


def test_median_seconds_measures_a_pass() -> None:
    law = cost_of_layers.Law("Dense", "n", 2, (4, 8), cost_of_layers.laws()[0].of)
    measured = cost_of_layers.measure(law, cost_of_layers.Config(runs_each=2, rest=0.0))
    assert measured.operations.tolist() == [2 * 64 * 16, 2 * 64 * 64]
    assert (measured.seconds > 0).all()
