"""The experiments on optimizers: their functions, their measurements and their files."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnnet
from experiments import layerwise_rates, learning_rate, optimizers, surfaces, tuning, walks
from experiments.__main__ import EXPERIMENTS
from experiments.contenders import CONTENDERS, Contender
from fnnet.paths import is_weight
from tests.public import public_optimizers
from tests.runs import files_in, lines_of, only_folder

every_surface = pytest.mark.parametrize("surface", surfaces.SURFACES, ids=lambda surface: surface.name)


class TestSurfaces:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("rosenbrock", 24.2),  # at the classical start (−1.2, 1)
            ("beale", 14.203125),  # at (1, 1): 1.5² + 2.25² + 2.625²
            ("saddle", 2.25 - 1e-4 + 0.25e-8),
            ("quadratic", 0.5 * ((-(3**0.5) + 0.25) ** 2 + 100 * (1 + 0.25 * 3**0.5) ** 2)),  # from (−2, ½), turned
        ],
    )
    @pytest.mark.usefixtures("x64")
    def test_values_at_the_start(self, name: str, value: float) -> None:
        (surface,) = (surface for surface in surfaces.SURFACES if surface.name == name)
        start = (jnp.float64(a) for a in surface.start)
        np.testing.assert_allclose(surface.function(*start), value, rtol=1e-12)

    @every_surface
    @pytest.mark.usefixtures("x64")
    def test_minima_are_minima(self, surface: surfaces.Surface) -> None:
        def function(point: jax.Array) -> jax.Array:
            return surface.function(point[0], point[1])

        for minimum in surface.minima:
            point = jnp.array(minimum, jnp.float64)
            np.testing.assert_allclose(function(point), surface.lowest, atol=1e-12)
            np.testing.assert_allclose(jax.grad(function)(point), 0, atol=1e-12)
            assert (np.linalg.eigvalsh(jax.hessian(function)(point)) > 0).all()

    @pytest.mark.usefixtures("x64")
    def test_the_saddle_is_one_and_the_quadratic_has_its_condition(self) -> None:
        def eigenvalues(f: Any) -> np.ndarray:
            return np.linalg.eigvalsh(jax.hessian(lambda p: f(p[0], p[1]))(jnp.zeros(2)))

        np.testing.assert_allclose(eigenvalues(surfaces.saddle), [-2, 2])
        np.testing.assert_allclose(eigenvalues(surfaces.quadratic), [1, surfaces.CONDITION])

    @every_surface
    def test_the_drawn_range_contains_start_and_minima(self, surface: surfaces.Surface) -> None:
        for x, y in (surface.start, *surface.minima):
            assert surface.x_range[0] < x < surface.x_range[1]
            assert surface.y_range[0] < y < surface.y_range[1]


class TestContenders:
    def test_every_algorithm_is_compared(self) -> None:
        """The exception is gauss_newton, which needs residuals instead of a cost."""
        for_batches = {function.__name__ for function in public_optimizers()}
        assert {contender.name for contender in CONTENDERS if not contender.whole_batch} == for_batches
        assert {c.name for c in CONTENDERS if c.whole_batch} == {"newton", "lbfgs", "conjugate_gradient"}

    @pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
    def test_is_what_its_name_says(self, contender: Contender) -> None:
        """The first step on a quadratic equals that of the function of that name."""
        params = {"w": jnp.array([[3.0, -1.0]])}
        weights = jnp.array([[1.0, 2.0]])

        def objective(params: Any) -> jax.Array:
            return 0.5 * (weights * jnp.square(params["w"])).sum()

        def step(optimizer: fnnet.Optimizer) -> np.ndarray:
            return np.asarray(optimizer.update(jax.grad(objective)(params), optimizer.init(params), params)[0]["w"])

        make = getattr(fnnet.optimizers, contender.name)
        options = {"newton": {"damping": 1e-4, "saddle_free": True}, "muon": {"others": fnnet.optimizers.adam(0.1)}}
        if contender.whole_batch:
            make = partial(make, objective)
        optimizer = make(*((0.1,) if contender.tuned else ()), **options.get(contender.name, {}))
        np.testing.assert_array_equal(step(contender.make(0.1, objective)), step(optimizer))

    def test_a_rate_at_the_end_of_the_grid_has_a_star(self) -> None:
        sgd, rates = CONTENDERS[0], np.array([0.1, 1.0, 10.0])
        assert [sgd.shown_rate(rates, i) for i in range(3)] == ["0.1*", "1", "10*"]


class TestOptimizers:
    def test_leaves_tables_and_pictures(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        few = ("sgd", "lbfgs", "newton")
        monkeypatch.setattr(optimizers, "CONTENDERS", [c for c in CONTENDERS if c.name in few])
        small: dict[str, Any] = {"hidden": 4, "epochs": 2, "batch_size": 256, "whole_batch_updates": 3}
        config = optimizers.Config(**small, rates=3, surface_steps=5, timings=1, runs=tmp_path)
        optimizers.run(config)
        folder = only_folder(tmp_path / "optimizers")
        pictures = {"cost_by_update", "cost_by_second", "cost_by_rate"} | {f"paths_{s.name}" for s in surfaces.SURFACES}
        assert files_in(folder) == {"config.json", "metrics.jsonl", "summary.md"} | {f"{name}.png" for name in pictures}
        lines = lines_of(folder)
        assert [line["optimizer"] for line in lines] == ["sgd", "lbfgs"]
        assert [line["updates"] for line in lines] == [[0, 5, 10], [0, 1, 2, 3]]
        assert len({line["costs"][0] for line in lines}) == 1  # the same start
        summary = (folder / "summary.md").read_text()
        assert [summary.count(f"| {name} |") for name in few] == [2, 2, 1]

    def test_the_best_rate_is_taken(self) -> None:
        """It is the rate of the lowest final cost that is finite."""
        assert tuning.lowest([3.0, float("nan"), 1.0, float("-inf"), 2.0]) == 2
        assert tuning.lowest([float("nan"), float("inf")]) == 0

    def test_paths_by_gradient_descent_are_those_of_a_loop(self) -> None:
        walked = walks.walk(CONTENDERS[0], jnp.array([1e-3, 5e-3, 1e-2]), steps=10)
        quadratic = [surface.name for surface in surfaces.SURFACES].index("quadratic")
        point, centre = np.array(surfaces.SURFACES[quadratic].start), np.array([1, 0.5])
        c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
        turn = np.array([[c, s], [-s, c]])
        hessian = turn.T @ np.diag([1, 100]) @ turn
        for step in range(11):
            np.testing.assert_allclose(walked.paths[quadratic, step], point, rtol=1e-4, atol=1e-5)
            point = point - 1e-2 * hessian @ (point - centre)  # 1e-2 is the best of the three
        assert walked.rates[quadratic] == "0.01*"

    def test_steps_to_reach(self) -> None:
        """The value must stay low from then on, and for long enough."""
        stays = [1e-4] * walks.STAYED
        assert walks.steps_to_reach(np.array([1.0, 1e-4, 1.0, *stays])) == 3
        assert walks.steps_to_reach(np.array(stays)) == 0
        assert walks.steps_to_reach(np.array([1.0, *stays[1:]])) is None
        assert walks.steps_to_reach(np.array([1.0, *stays, np.nan])) is None

    def test_the_quickest_path_is_taken(self) -> None:
        stays, is_far = [1e-4] * walks.STAYED, [1.0] * walks.STAYED
        assert (
            walks.quickest(np.array([[1.0, 1.0, 1.0, *stays], [1.0, 1e-4, *stays, 1e-4], [np.nan, 0, 0, *is_far]])) == 1
        )
        assert walks.quickest(np.array([[1.0, 0.5], [1.0, np.nan], [1.0, 0.2]])) == 2  # none reaches it


@pytest.fixture(scope="module")
def of_rates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of results of ``learning_rate``."""
    root = tmp_path_factory.mktemp("runs")
    assert learning_rate.run(learning_rate.Config(hidden=4, steps=20, rates=20, runs=root)) == 0
    return only_folder(root / "learning_rate")


class TestLearningRate:
    def test_leaves_a_table_and_pictures(self, of_rates: Path) -> None:
        assert files_in(of_rates) == {"config.json", "metrics.jsonl", "summary.md", "quadratic.png", "digits.png"}
        summary = (of_rates / "summary.md").read_text()
        assert all(
            f"| {name} | {regime} |" in summary for name in ("quadratic", "digits") for regime in learning_rate.REGIMES
        )
        assert "they agree" in summary

    def test_exactly_the_rates_above_the_edge_diverge(self, of_rates: Path) -> None:
        lines = lines_of(of_rates)
        quadratic = [line for line in lines if line["function"] == "quadratic"]
        assert len(quadratic) == 20
        for line in quadratic:
            assert (line["regime"] == "diverging") == (line["rate"] > 2 / 4)

    @pytest.mark.parametrize("largest", [4.0, 10.0])
    def test_the_measured_edge_is_two_over_the_largest_eigenvalue(self, largest: float) -> None:
        config = learning_rate.Config(largest_eigenvalue=largest)
        quadratic = learning_rate.Quadratic(config)
        swept = learning_rate.classify(*quadratic.sweep(quadratic.rates), config)
        edge, low, high = learning_rate.narrowed_edge(quadratic, swept, config)
        assert low < edge < high
        np.testing.assert_allclose(edge, 2 / largest, rtol=1e-4)

    def test_an_edge_elsewhere_is_a_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(learning_rate, "narrowed_edge", lambda *_: (0.51, 0.50, 0.52))
        assert learning_rate.run(learning_rate.Config(hidden=2, steps=5, rates=20, runs=tmp_path)) == 1

    def test_regimes_are_as_defined(self) -> None:
        costs = {
            0.01: [1.0, 0.95, 0.9, 0.9, 0.9],  # gains 0.05 decades; the best gains 3
            0.1: [1.0, 0.1, 0.01, 1e-3, 1e-3],
            0.2: [1.0, 0.1, 0.05, 0.02, 0.02],  # 1.7 decades
            0.3: [1.0, 2.0, 0.01, 1e-3, 2e-3],  # rises
            0.4: [1.0, 0.9, 0.8, 0.7, 0.7],  # above the best rate, 0.15 decades
            0.5: [1.0, 2.0, 4.0, 8.0, 16.0],
            0.6: [1.0, np.inf, np.nan, np.nan, np.nan],
        }
        swept = learning_rate.classify(
            np.array(list(costs)), np.array(list(costs.values())), learning_rate.Config(fraction=0.5, rising=0.1)
        )
        assert swept.regimes == ["too low", "right", "right", *["at the edge"] * 2, *["diverging"] * 2]
        np.testing.assert_allclose(swept.rising, [0, 0, 0, 0.5, 0, 1, 1])
        assert [swept.representative(regime) for regime in learning_rate.REGIMES] == [0, 1, 4, 6]


@pytest.fixture(scope="module")
def of_layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of results of ``layerwise_rates``."""
    root = tmp_path_factory.mktemp("runs")
    layerwise_rates.run(layerwise_rates.Config(hidden=(5,), epochs=2, batch_size=256, rates=3, runs=root))
    return only_folder(root / "layerwise_rates")


class TestLayerwiseRates:
    def test_leaves_a_table_and_pictures(self, of_layers: Path) -> None:
        assert files_in(of_layers) == {"config.json", "metrics.jsonl", "summary.md", "radar.png", "update_ratios.png"}
        summary = (of_layers / "summary.md").read_text()
        assert all(f"| {name} |" in summary for name in ("uniform", "depth decay", "LARS", "LAMB"))

    def test_measures_the_rates_that_it_sets(self, of_layers: Path) -> None:
        lines = lines_of(of_layers)
        of = {(line["method"], line["layer"]): line for line in lines}
        layers = ["1: 64→5", "2: 5→10"]
        assert set(of) == {(name, layer) for name in ("uniform", "depth decay", "LARS", "LAMB") for layer in layers}
        (uniform,) = {round(of["uniform", layer]["rates"][0], 6) for layer in layers}
        rate = of["depth decay", layers[1]]["rates"][0]
        assert uniform > 0
        np.testing.assert_allclose([of["depth decay", name]["rates"][0] / rate for name in layers], [0.5, 1])
        for method in ("LARS", "LAMB"):  # trust ratios: every layer changes by the same fraction, in every update
            ratios = [of[method, layer]["update_ratios"] for layer in layers]
            np.testing.assert_allclose(ratios, ratios[0][0], rtol=1e-4)


class TestTuning:
    def test_training_is_fits(self) -> None:
        """The numbers equal those of ``fit`` at one of the rates."""
        x = jax.random.normal(jax.random.key(0), (20, 3))
        y = jnp.arange(20) % 2
        cost = fnnet.Cost(fnnet.sequential(fnnet.Dense(2)), fnnet.losses.softmax_cross_entropy)
        params, key = cost.model.init(jax.random.key(1), x), jax.random.key(2)
        train = tuning.training(cost, fnnet.optimizers.adam, params, (x, y), key=key, epochs=3, batch_size=5)
        together = jax.jit(jax.vmap(train))(jnp.array([0.1, 0.2]))
        alone = jax.tree.map(lambda leaf: leaf[1], together)
        adam = fnnet.optimizers.adam(0.2)
        fitted = fnnet.fit(cost, adam, params, (x, y), key=key, epochs=3, batch_size=5, validation=(x, y))
        for name, leaf in fnnet.paths.named_leaves(fitted.state.params):
            np.testing.assert_allclose(dict(fnnet.paths.named_leaves(alone.params))[name][-1], leaf, rtol=1e-5)
        costs = tuning.along(cost, (x, y))(alone.params)["cost"]
        np.testing.assert_allclose(costs[1:], fitted.history["validation_cost"], rtol=1e-5)
        np.testing.assert_allclose(costs[0], cost(params, (x, y)), rtol=1e-6)


def test_the_experiments_are_listed() -> None:
    assert {"optimizers", "learning_rate", "layerwise_rates"} <= set(EXPERIMENTS)


def test_layers_are_named_from_the_input() -> None:
    params = ({}, {"w": jnp.zeros((4, 3)), "b": jnp.zeros(3)}, {}, {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)})
    names = [name for name, p in fnnet.paths.named_leaves(params) if is_weight(p)]
    assert [layerwise_rates.layer_name(params, name) for name in names] == ["1: 4→3", "2: 3→2"]
