"""The experiment ``landscape``: its path, its planes, its verdict and its pictures."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnnet
from experiments import landscape
from experiments.cli import ExperimentError
from experiments.landscape import Config, descend, grid
from fnnet import inspect, plots
from tests.compare import assert_close, assert_identical

TINY = Config(hidden=4, steps=30, record_every=5, resolution=7)


def test_it_runs_and_leaves_its_results(tmp_path: Path) -> None:
    assert landscape.run(Config(**(vars(TINY) | {"runs": tmp_path}))) == 0
    (folder,) = (tmp_path / "landscape").iterdir()
    pictures = {"contours.png", "surface_along_the_path.png", "surface_along_random_directions.png"}
    assert {path.name for path in folder.iterdir()} == {"config.json", "metrics.jsonl", "summary.md", *pictures}
    random, along = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    assert random["centre"] == pytest.approx(random["trained"], rel=1e-6)
    assert along["centre"] == pytest.approx(along["trained"], rel=1e-6)
    assert random["fraction"] < 0.2 < 0.8 < along["fraction"] <= 1


def test_another_cost_in_the_middle_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = inspect.cost_plane
    monkeypatch.setattr(inspect, "cost_plane", lambda *args: right(*args) * 1.001)
    assert landscape.run(Config(**(vars(TINY) | {"runs": tmp_path}))) == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"record_every": 7}, "steps is 30; expected a multiple of record_every = 7"),
        ({"resolution": 2}, "resolution is 2 and extent is 1.0; expected at least 3"),
        ({"extent": 0.0}, "resolution is 7 and extent is 0.0"),
    ],
)
def test_refused(tmp_path: Path, option: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        landscape.run(Config(**(vars(TINY) | {"runs": tmp_path} | option)))


def test_the_path_is_that_of_single_steps() -> None:
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.standard_normal((50, 3)), "float32")
    y = jnp.asarray(generator.integers(0, 2, 50))
    cost = fnnet.Cost(fnnet.sequential(fnnet.Dense(2)), fnnet.losses.softmax_cross_entropy)
    params, key = cost.model.init(jax.random.key(1), x), jax.random.key(2)
    path = jax.jit(lambda params: descend(cost, TINY, params, (x, y), key))(params)
    assert path[0]["w"].shape == (7, 3, 2)
    assert_identical(jax.tree.map(lambda leaf: leaf[0], path), params)

    optimizer = fnnet.optimizers.momentum(TINY.learning_rate, TINY.momentum)
    step, state = jax.jit(fnnet.train_step(cost, optimizer)), fnnet.TrainState.create(params, optimizer, key)
    for _ in range(10):
        rows = jax.random.randint(state.order_key(), (TINY.batch_size,), 0, 50)
        state, _ = step(state, (x[rows], y[rows]))
    assert_close(jax.tree.map(lambda leaf: leaf[2], path), state.params, 1e-5)


@pytest.mark.parametrize(
    ("path", "extent"), [([0.0, 9.0], None), ([-7.3, 0.0], None), ([0.1, -0.2, 0.0], None), ([0.0], None), ([5.0], 1.0)]
)
def test_grids_contain_zero_and_the_path(path: list[float], extent: float | None) -> None:
    values = grid(np.array(path), extent, 61)
    assert (values == 0).sum() == 1
    np.testing.assert_allclose(np.diff(values), np.diff(values)[0], rtol=1e-9)
    assert abs(len(values) - 61) <= 1
    if extent is None:
        assert values[0] < min(path) <= max(path) < values[-1]
    else:
        np.testing.assert_allclose(values[[0, -1]], [-1, 1])


def made(path: Any) -> plots.Landscape:
    x, y = np.linspace(-1, 1, 9), np.linspace(-2, 2, 7)
    costs = 0.1 + x[None] ** 2 + y[:, None] ** 2
    path = np.asarray(path)
    return plots.Landscape(x, y, costs, path, 0.1 + (path**2).sum(1), ("across", "along"))


def test_pictures_name_their_axes() -> None:
    land = made([[1.0, -2.0], [0.5, 0.5], [0.0, 0.0]])
    contours, surface = plots.landscape_contours({"one": land, "two": land}), plots.landscape_surface(land, "one")
    for axes in (contours.axes[0], contours.axes[1], surface.axes[0]):
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("across", "along")
    assert surface.axes[0].get_zlabel() == "cost"  # type: ignore[attr-defined]
    for figure in (contours, surface):
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["path of the descent", "start", "end"]


@pytest.mark.parametrize(
    ("low", "high", "numbers"),
    [(0.16, 9.4, [0.2, 0.5, 1, 2, 5]), (0.1, 1, [0.1, 0.2, 0.5, 1]), (3e-4, 40, [1e-3, 1e-2, 1e-1, 1, 10])],
)
def test_round_numbers(low: float, high: float, numbers: list[float]) -> None:
    np.testing.assert_allclose(plots.round_numbers(low, high), numbers)
