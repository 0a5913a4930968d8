"""The experiments on curvature, at a small size: their files, their checks and what they call a failure."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import conditioning, curvature, edge_of_stability
from fnnet.inspect.curvature import Estimate
from tests.runs import files_in, lines_of, only_folder


def test_spectrum_of_a_small_network(tmp_path: Path) -> None:
    """Estimates agree with the whole matrix; a wrong one is found."""
    config = curvature.Config(hidden=2, epochs=2, steps=25, samples=1, products=9, runs=tmp_path)
    assert curvature.run(config) == 0
    folder = only_folder(tmp_path / "curvature")
    assert files_in(folder) == {"config.json", "metrics.jsonl", "summary.md", "curvature.png"}
    assert [line["at"] for line in lines_of(folder)] == ["start", "middle", "end"]

    exact, estimate = np.linspace(-1, 9, 50), Estimate(np.float64(200.0), np.float64(1.0))
    right: dict[str, Any] = {
        "largest": exact[:-11:-1],
        "smallest": exact[:10],
        "hutchinson": estimate,
        "hutch": estimate,
    }
    look = curvature.Look(0, 1.0, None, gauss_newton=estimate, exact=exact, **right)  # type: ignore[arg-type]
    assert curvature.faults(look, config) == []
    assert len(curvature.faults(look._replace(largest=exact[:-11:-1] * 1.01), config)) == 1
    assert len(curvature.faults(look._replace(hutch=Estimate(np.float64(206.0), np.float64(1.0))), config)) == 1


@pytest.mark.parametrize(("exact", "outliers"), [([0.1, 0.2, 0.3, 6, 7, 8, 9], 4), ([-1, 0.001, 0.9, 1, 5], 3)])
def test_outliers_lie_above_the_widest_gap(exact: list[float], outliers: int) -> None:
    nothing: Any = None
    assert curvature.Look(*[nothing] * 8, exact=np.array(exact)).outliers == outliers


def at_the_edge(problem: Any, make: Any, rates: dict[str, float]) -> dict[str, edge_of_stability.Course]:
    ones = np.ones(2)
    return {name: edge_of_stability.Course(np.array([2, 4]), ones, ones, 2 / rate) for name, rate in rates.items()}


def test_the_edge_is_looked_at_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few steps the digits are not at the edge, which the experiment says; Adam stands for the others."""
    monkeypatch.setattr(edge_of_stability, "OTHERS", dict(list(edge_of_stability.OTHERS.items())[-1:]))
    monkeypatch.setattr(edge_of_stability.Polynomial, "train", at_the_edge)
    config = edge_of_stability.Config(steps=4, polynomial_steps=4, looks=2, examples=16, runs=tmp_path)
    assert edge_of_stability.run(config) == 1
    folder = only_folder(tmp_path / "edge_of_stability")
    assert files_in(folder) == {"config.json", "metrics.jsonl", "summary.md", "edge_of_stability.png"}
    lines = lines_of(folder)
    assert len(lines) == 2 * (
        len(edge_of_stability.RATES) + len(edge_of_stability.POLYNOMIAL_RATES) + len(edge_of_stability.OTHERS)
    )
    said = [line for line in (folder / "summary.md").read_text().splitlines() if line.startswith("- ")]
    assert [line.endswith("THIS SHOULD NOT BE") for line in said] == [True, False, False, False, True]
    assert said[2] == "- λ_max averages 10.00 at η = 1/5 on the polynomial, where 2/η = 10"


def test_steps_of_linear_models_are_those_of_the_eigenvalues() -> None:
    """On whitened features one step is enough; on standardized ones the prediction is exact and below the bound."""
    config = conditioning.Config()
    forms = conditioning.features()
    assert conditioning.linear_model("whitened", forms["whitened"], config).measured == 1
    steps = conditioning.linear_model("standardized", forms["standardized"], config)
    assert abs(steps.predicted - steps.measured) <= 1
    assert 10 < steps.measured <= np.ceil(steps.numbers[1])


def test_steps_of_a_network_near_its_tangent_model() -> None:
    """From weights that are not small they hardly move: predicted and measured steps agree within a fifth."""
    config = conditioning.Config(examples=16, network_factor=0.5)
    steps = conditioning.network("centred", "none", 1.0, config)
    assert steps.measured == pytest.approx(steps.predicted, rel=0.2)
    smaller = conditioning.network("centred", "none", 0.3, config)
    assert smaller.numbers[0] < 0.7 * steps.numbers[0]


def test_tangent_model_of_a_linear_model() -> None:
    """The eigenvalues are those of ``(X Xᵀ + 1 1ᵀ) / N``, once for each output."""
    import fnnet

    x = np.random.default_rng(0).standard_normal((5, 3)).astype("float32")
    model = fnnet.sequential(fnnet.Dense(2))
    params = model.init(jax.random.key(0), jnp.asarray(x))
    values, shares = conditioning.tangent_model(model, params, (jnp.asarray(x), jnp.ones((5, 2))))
    expected = np.repeat(np.linalg.eigvalsh((x @ x.T + 1) / 5), 2)
    np.testing.assert_allclose(values, expected.clip(0), atol=1e-5)
    assert shares.sum() == pytest.approx(1)


def test_first_step() -> None:
    assert conditioning.first_step(lambda t: 0.5**t, 0.1) == 4
    assert conditioning.first_step(lambda t: 0.5**t, 0.5) == 1
    assert conditioning.first_step(lambda t: 1.0, 0.5) == np.inf


def test_contender_in_pytorch_on_softmax_regression() -> None:
    """Its products have the eigenvalues of ``1/N Σ x xᵀ ⊗ (diag p − p pᵀ)``, and its estimates agree with them."""
    torch = pytest.importorskip("torch")
    from experiments.benchmarks.curvature_contenders import Hessian, mean_and_error, torch_network

    generator = np.random.default_rng(0)
    x, w, b = (generator.standard_normal(shape).astype("float32") for shape in ((9, 4), (4, 3), (3,)))
    z = np.float64(x @ w + b)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    matrices = [np.kron(np.outer([1, *a], [1, *a]), np.diag(q) - np.outer(q, q)) for a, q in zip(x, p, strict=True)]
    exact = np.linalg.eigvalsh(np.mean(matrices, 0))

    torch.manual_seed(0)
    found = Hessian(*torch_network(({"w": w, "b": b},), (x, np.arange(9) % 3)))
    products = np.stack([found @ unit for unit in torch.eye(15)])
    np.testing.assert_allclose(np.linalg.eigvalsh(products), exact, atol=1e-6)
    np.testing.assert_allclose(found.largest(2), exact[:-3:-1], rtol=0.02)
    value, error = mean_and_error(found.traces(200))
    assert abs(value - exact.sum()) < 4.5 * error
    nodes, weights = found.quadrature(12)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-4)
    assert float(nodes.max()) == pytest.approx(exact[-1], rel=1e-4)
