"""The experiment ``gradient_flow_in_time``: its verdict, its exact slopes and its picture."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments import gradient_flow_in_time as experiment
from experiments import gradient_flow_pictures
from experiments.cli import ExperimentError
from experiments.gradient_flow_in_time import EXACT, Config, Flow

TINY = Config(features=6, steps=8, radii=(0.5, 1.5))


@pytest.fixture(scope="module")
def flows() -> Any:
    with jax.enable_x64(True):
        return experiment.measure(TINY)


def test_linear_recurrences_grow_by_their_radius(flows: Any) -> None:
    assert experiment.faults(flows) == []
    for radius in TINY.radii:
        flow = flows[EXACT][radius]
        np.testing.assert_allclose(flow.norms, radius ** np.arange(9.0), rtol=1e-12)
        assert flow.slope == pytest.approx(math.log(radius), rel=1e-12)
    not_normal = flows["linear, not normal"][0.5]
    assert (not_normal.norms > 0.5 ** np.arange(9.0))[1:].all()  # ‖Wᵏ‖ ≥ ρᵏ, and larger if W is not normal
    assert not_normal.norms[1] > 0.6


def test_faults_are_found(flows: Any) -> None:
    above = Flow(np.array([1.0, 2.0, 1.0]), np.array([1.0, 1.9, 2.0]))
    assert "tanh, radius 0.5: the norm is 1.05 times its bound" in experiment.faults(flows | {"tanh": {0.5: above}})
    slow = Flow(np.array([1.0, 0.5, 0.2501]), np.ones(3))
    (fault,) = experiment.faults(flows | {EXACT: {0.5: slow}})
    assert "not log(0.5)" in fault
    nan = Flow(np.array([1.0, np.nan]), np.ones(2))
    assert len(experiment.faults(flows | {"tanh": {0.5: nan}})) == 1


def test_norms_too_small_for_float64_are_no_faults() -> None:
    exact = 0.5 ** np.arange(2001.0)
    rounded = np.where(exact < 1e-300, 1.3 * exact, exact * (1 + 1e-12))
    flows = {EXACT: {0.5: Flow(rounded, exact)}}
    assert experiment.faults(flows) == []
    assert flows[EXACT][0.5].slope == pytest.approx(math.log(0.5), rel=1e-6)
    assert gradient_flow_pictures.flows(flows).axes[0].get_ylim()[0] > 0


def test_it_runs_and_leaves_its_results(
    flows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiment, "measure", lambda config: flows)
    assert experiment.run(Config(**(vars(TINY) | {"runs": tmp_path}))) == 0
    assert "every norm is below its bound" in " ".join(capsys.readouterr().out.split())
    (folder,) = (tmp_path / "gradient_flow_in_time").iterdir()
    assert {path.name for path in folder.iterdir()} == {"config.json", "metrics.jsonl", "summary.md", "flow.png"}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == len(flows) * 2
    assert {len(line["norms"]) for line in lines} == {9}


def test_a_wrong_norm_is_a_failure(flows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = flows | {"GRU": {0.5: Flow(2 * flows["GRU"][0.5].bounds, flows["GRU"][0.5].bounds)}}
    monkeypatch.setattr(experiment, "measure", lambda config: broken)
    assert experiment.run(Config(**(vars(TINY) | {"runs": tmp_path}))) == 1


def test_the_picture_names_everything(flows: Any) -> None:
    figure = gradient_flow_pictures.flows(flows)
    assert [ax.get_title() for ax in figure.axes] == list(flows)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["radius 0.5", "radius 1.5", "bound"]


@pytest.mark.parametrize("option", [{"radii": (0.5, 0.0)}, {"radii": ()}, {"steps": 3}])
def test_refused(option: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="expected radii above 0 and at least 4 steps"):
        experiment.run(Config(**(vars(TINY) | {"runs": tmp_path} | option)))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"radii": tuple(np.linspace(0.1, 0.8, 8))}, "expected at most 7 radii, a colour each"),
        ({"steps": 2000}, "steps is 2000, over which gradients of radius 1.5 overflow float64"),
    ],
)
def test_too_much_is_refused(option: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=message):
        experiment.run(Config(**(vars(TINY) | {"runs": tmp_path} | option)))
