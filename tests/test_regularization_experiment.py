"""The experiment ``regularization``: its training, its choices and its files."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnnet
from experiments import data, regularization
from experiments.cli import ExperimentError
from experiments.regularization import Config, Fit, Strengths, choose, fit_many, network, sample, weights_of
from tests.compare import assert_close

TINY = Config(
    hidden=8,
    train_size=40,
    validation_size=30,
    seeds=2,
    epochs=60,
    batch_size=20,
    l1=(1e-2,),
    l2=(1e-2,),
    dropout=(0.5,),
)
NONE, PROXIMAL, SUBGRADIENT = Strengths(), Strengths(proximal_l1=1e-3), Strengths(subgradient_l1=1e-3)
Fits = dict[Strengths, Fit]


@pytest.fixture(scope="module")
def pool() -> Any:
    x, y = data.digits(0.5).train
    return jnp.asarray(x), jnp.asarray(y)


@pytest.fixture(scope="module")
def fits(pool: Any) -> Fits:
    return fit_many(TINY, pool, 0.0, [NONE, PROXIMAL, SUBGRADIENT])


def test_the_proximal_step_alone_makes_exact_zeros(fits: Fits) -> None:
    zeros = {strengths: (weights_of(fit.params) == 0).mean() for strengths, fit in fits.items()}
    assert zeros[PROXIMAL] > 0.1
    assert zeros[NONE] == zeros[SUBGRADIENT] == 0
    costs = {strengths: np.asarray(fit.curves["training"]["cost"])[:, -1] for strengths, fit in fits.items()}
    np.testing.assert_allclose(costs[PROXIMAL], costs[SUBGRADIENT], rtol=0.05)


def test_every_network_is_what_fit_trains(pool: Any, fits: Fits) -> None:
    """One sample without penalties is trained by ``fit`` and momentum alone."""
    key = jax.random.split(jax.random.key(TINY.seed), TINY.seeds)[1]
    sample_key, init_key, train_key = jax.random.split(key, 3)
    train, validation = sample(TINY, pool, sample_key)
    model = network(TINY.hidden)
    fitted = fnnet.fit(
        fnnet.Cost(model, fnnet.losses.softmax_cross_entropy),
        fnnet.optimizers.momentum(TINY.learning_rate),
        model.init(init_key, pool[0]),
        train,
        key=train_key,
        epochs=TINY.epochs,
        batch_size=TINY.batch_size,
        validation=validation,
    )
    assert_close(jax.tree.map(lambda leaf: leaf[1], fits[NONE].params), fitted.state.params, 1e-4)
    np.testing.assert_allclose(fits[NONE].curves["validation"]["cost"][1], fitted.history["validation_cost"], rtol=1e-4)


def test_samples_have_nothing_in_common(pool: Any) -> None:
    rows = (jnp.arange(len(pool[0])), pool[1])
    train, validation = sample(TINY, rows, jax.random.key(3))
    assert len(set(train[0].tolist())) == 40
    assert len(set(validation[0].tolist()) - set(train[0].tolist())) == 30


def test_dropout_starts_from_the_weights_of_the_others() -> None:
    x, key = jnp.ones((1, 8, 8)), jax.random.key(0)
    assert_close(network(4, 0.5).init(key, x), network(4).init(key, x), 0)


def test_early_stopping_takes_the_lowest_validation_cost() -> None:
    """The curve is made up; the parameters belong to the epoch of its minimum."""
    curve = jnp.array([[3.0, 1.0, 2.0, 4.0], [3.0, 2.0, 1.5, 1.0]])
    made = Fit({which: {"cost": curve} for which in ("training", "validation")}, "end", "best")
    none = choose({"": made}, lambda params: {"params": params})
    stopped = regularization.stopped_early(none, lambda params: {"params": params})
    assert (none.epochs.tolist(), none.test) == ([4, 4], {"params": "end"})
    assert (stopped.epochs.tolist(), stopped.test, stopped.strength) == ([2, 4], {"params": "best"}, "epoch 2–4")


def test_best_params_have_the_lowest_validation_cost(pool: Any, fits: Fits) -> None:
    curves = np.asarray(fits[NONE].curves["validation"]["cost"])
    assert (curves.argmin(1) < TINY.epochs - 1).any()
    cost = fnnet.Cost(network(TINY.hidden), fnnet.losses.softmax_cross_entropy)
    for i, key in enumerate(jax.random.split(jax.random.key(TINY.seed), TINY.seeds)):
        _, validation = sample(TINY, pool, jax.random.split(key, 3)[0])
        best = cost(jax.tree.map(lambda leaf, i=i: leaf[i], fits[NONE].best_params), validation)
        np.testing.assert_allclose(best, curves[i].min(), rtol=1e-5)


def test_the_lowest_validation_cost_is_chosen() -> None:
    def made(validation: float) -> Fit:
        curves = {"training": {"cost": jnp.zeros((1, 2))}, "validation": {"cost": jnp.array([[0.0, validation]])}}
        return Fit(curves, validation, None)

    choice = choose({"weak": made(2.0), "right": made(1.0), "strong": made(3.0)}, lambda params: {"params": params})
    assert (choice.strength, choice.test) == ("right", {"params": 1.0})


def test_more_digits_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="validation_size is 30; expected at most 898 together"):
        regularization.run(Config(**(vars(TINY) | {"runs": tmp_path, "train_size": 900})))


def test_it_runs_and_leaves_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    regularization.run(Config(**(vars(TINY) | {"runs": tmp_path})))
    (folder,) = (tmp_path / "regularization").iterdir()
    names = {"config.json", "metrics.jsonl", "summary.md", "curves.png", "weights.png"}
    assert {path.name for path in folder.iterdir()} == names
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    methods = ["none", "L1, proximal", "L1, subgradient", "L2", "elastic net", "dropout", "early stopping"]
    assert [line["method"] for line in lines] == [method for method in methods for _ in range(2)]
    shown = capsys.readouterr().out
    assert all(method in shown for method in methods)
