"""Reruns with one thing changed: they give the run again, and confirm what is wrong and nothing else."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnnet
from fnnet import Cost, Dense, Dropout, losses, optimizers, penalties
from fnnet.diagnosis import Change, Report, Setup, Verdict, remedies
from fnnet.diagnosis.changes import apply
from fnnet.diagnosis.remedies import Rerun, probe_of
from fnnet.training.state import TrainState


@cache
def healthy() -> Setup:
    """Return a run of 10 epochs of 16 updates that learns, with dropout, a penalty and a short last batch."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((380, 4)).astype(np.float32)
    y = np.tanh(x[:, :1] - x[:, 1:2]) + 0.1 * rng.standard_normal((380, 1)).astype(np.float32)
    model = fnnet.sequential(Dense(16), fnnet.relu, Dropout(0.1), Dense(1))
    cost = Cost(model, losses.squared_error, penalties.l2(1e-4))
    params = model.init(jax.random.key(0), jnp.asarray(x))
    data, validation = (x[:252], y[:252]), (x[252:], y[252:])
    return Setup(cost, optimizers.momentum(0.2), params, data, jax.random.key(1), validation, 16, 10)


@cache
def states_of_the_healthy_run() -> tuple[TrainState, ...]:
    states: list[TrainState] = []
    healthy().fit(callbacks=[lambda state, record: states.append(state)])
    return tuple(states)


def suspected(*changes: Change, **options: Any) -> Report:
    numbers = {"statistic": "a number", "value": 1.0, "threshold": 0.5, "healthy": (0.0, 0.1)}
    return Report((Verdict("a fault", "suspected", "It may be.", remedy=changes, **numbers, **options),))


def test_the_unchanged_arm_gives_the_run_again_bit_for_bit() -> None:
    """From the start, and from a state in the middle, over epochs with a smaller last batch."""
    states = states_of_the_healthy_run()
    setup = healthy()
    for start, end in ((setup.start(), states[3]), (states[3], states[7])):
        steps = int(end.step - start.step)
        rerun = Rerun(setup, start, steps, probe_of(setup))
        for again, once in zip(jax.tree.leaves(rerun.unchanged.params[-1]), jax.tree.leaves(end.params), strict=True):
            np.testing.assert_array_equal(again, once)


def test_a_rate_a_hundred_times_too_high_is_confirmed() -> None:
    setup = apply(Change("learning_rate", "scale", 100.0), healthy())
    lower, higher = Change("learning_rate", "scale", 0.01), Change("learning_rate", "scale", 3.0)
    report = remedies(suspected(higher, lower, window=(0, 20)), setup, budget=10.0)
    (row,) = report.rows
    assert row.certainty == "confirmed"
    assert not report.ok
    assert row.remedy == lower
    assert row.outcome is not None
    assert row.outcome.z >= 3
    assert row.outcome.sham_z >= 2
    assert row.outcome.effect > 0.5
    assert row.outcome.after[-1] < 1 < row.outcome.before[-1]
    assert row.outcome.steps == 64


@pytest.mark.parametrize(
    "changes",
    [
        (Change("learning_rate", "scale", 1 / 3), Change("penalty", "scale", 0.1)),
        (Change("inputs", "standardize"),),
        (Change("gradients", "clip", 0.5),),
    ],
    ids=str,
)
def test_suspicions_of_a_healthy_run_are_refuted(changes: tuple[Change, ...]) -> None:
    report = remedies(suspected(*changes, window=(80, 160)), healthy(), states=states_of_the_healthy_run(), budget=10.0)
    assert [row.certainty for row in report.rows] == ["refuted"]
    assert report.ok


def test_a_verdict_of_the_structure_is_tried_on_a_score_that_both_admit() -> None:
    """A network that learns the squared error of bounded outputs is compared with one of logits."""
    base = healthy()
    x, y = base.data
    labels = (np.asarray(y) > 0).astype(np.float32)
    ends = fnnet.sequential(*base.cost.model.layers, fnnet.sigmoid)  # type: ignore[attr-defined]
    cost = Cost(ends, losses.squared_error)
    params = (*base.params[:3], base.params[3] | {"b": base.params[3]["b"] - 6}, {})
    setup = replace(base, cost=cost, params=params, data=(x, labels), validation=(x[:128], labels[:128]), epochs=3)
    report = remedies(suspected(Change("loss", "replace", losses.binary_cross_entropy)), setup, budget=10.0)
    assert report.rows[0].certainty == "confirmed"


def test_more_epochs_are_tried_from_the_end() -> None:
    few = replace(healthy(), epochs=2, optimizer=optimizers.momentum(0.02))
    states: list[TrainState] = []
    few.fit(callbacks=[lambda state, record: states.append(state)])
    report = remedies(suspected(Change("epochs", "scale", 3.0)), few, states=states, budget=10.0)
    assert report.rows[0].certainty == "confirmed"
    assert report.rows[0].outcome is not None
    assert report.rows[0].outcome.steps == 4 * 16


def test_what_the_budget_does_not_pay_for_is_said() -> None:
    report = remedies(suspected(Change("learning_rate", "scale", 0.1)), healthy(), budget=0.1)
    assert report.rows[0].certainty == "suspected"
    assert "pass remedies a budget of at least 1.2" in report.not_looked_at["the remedy of a fault"]
