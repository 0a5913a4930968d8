"""Faults and the verdicts on them; healthy runs, of which nothing is said; and the handbook."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Cost,
    Dense,
    FitResult,
    Recurrent,
    RNNCell,
    chain,
    fit,
    initializers,
    losses,
    relu,
    schedules,
    sequential,
    sigmoid,
)
from fnnet.diagnosis import Report, Watch, Watched, diagnose
from fnnet.diagnosis.diagnose import CHECKS
from fnnet.diagnosis.statistics import neighbours, standard_columns, theil_sen, z_of
from fnnet.diagnosis.verdicts.recurrence import carry_gradients
from fnnet.inspect import gradient_flow
from fnnet.optimizers import Optimizer, adam, clip_by_global_norm, sgd
from fnnet.penalties import l2
from fnnet.training.state import TrainState
from fnnet.types import Batch, Layer
from tests.cases import random_params

RANDOM = np.random.default_rng(0)
CENTERS = 1.5 * RANDOM.standard_normal((3, 4))


def blobs(count: int, *, shift: float = 0, wrong: float = 0) -> Batch:
    y = RANDOM.integers(0, 3, count)
    x = CENTERS[y] + 0.7 * RANDOM.standard_normal((count, 4)) + shift
    y = np.where(RANDOM.random(count) < wrong, RANDOM.integers(0, 3, count), y)
    return x.astype(np.float32), y.astype(np.int32)


DATA, VALIDATION = blobs(96), blobs(64)
NOISY = blobs(96, wrong=0.35), blobs(256, wrong=0.35)
LINE = np.linspace(0, 1, 96, dtype=np.float32)[:, None] * np.ones((96, 4), np.float32)
STRIPES = LINE, (np.arange(96) // 8 % 2).astype(np.int32)
TWO_CLASSES = tuple(np.resize(part[DATA[1] < 2], part.shape) for part in DATA)
MODEL = sequential(Dense(8), relu, Dense(3))
TINY = initializers.normal  # a standard deviation of 0.01
DEEP = sequential(*[layer for _ in range(3) for layer in (Dense(4, w_init=TINY), sigmoid)], Dense(3))
GOOD, FAST, ADAM = sgd(0.3), sgd(2.0), adam(0.05)
COST = Cost(MODEL, losses.softmax_cross_entropy)


def report_on(
    optimizer: Optimizer,
    epochs: int = 10,
    *,
    model: Layer = MODEL,
    penalty: Any = None,
    data: Batch = DATA,
    validation: Batch = VALIDATION,
    **options: Any,
) -> tuple[Report, FitResult]:
    cost, watch = Cost(model, losses.softmax_cross_entropy, penalty), Watch()
    params = model.init(jax.random.key(3), jnp.asarray(data[0]))
    arguments = {"key": jax.random.key(0), "batch_size": 16, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        made = fit(cost, optimizer, params, data, epochs=epochs, validation=validation, callbacks=[watch], **arguments)
    return diagnose(made, cost, watch=watch, data=data, validation=validation, optimizer=optimizer), made


FAULTS: dict[str, dict[str, Any]] = {
    "not finite": {"optimizer": sgd(1e30)},
    "learning rate too high": {"optimizer": sgd(20.0)},
    "learning rate too low": {"optimizer": sgd(1e-4)},
    "gradients vanish; stuck at the constant": {"optimizer": GOOD, "model": DEEP},
    "a penalty rules": {"optimizer": GOOD, "penalty": l2(1.0)},
    "overfits; lack of regularization": {"optimizer": ADAM, "epochs": 60, "data": NOISY[0], "validation": NOISY[1]},
    "training and test differ": {"optimizer": GOOD, "validation": blobs(64, shift=1.5)},
    "a class is not learned": {"optimizer": GOOD, "data": TWO_CLASSES},
    "underfits: too small": {"optimizer": GOOD, "epochs": 40, "data": STRIPES},
}


@pytest.mark.parametrize("names", FAULTS)
def test_a_fault_gets_its_verdict(names: str) -> None:
    report, _ = report_on(**FAULTS[names])
    for name in names.split("; "):
        assert report[name].certainty == ("exact" if name == "not finite" else "suspected")
    assert report.ok == ("not finite" not in names)


HEALTHY: dict[str, dict[str, Any]] = {
    "gradient descent": {"optimizer": GOOD, "epochs": 30},
    "adam": {"optimizer": ADAM, "epochs": 30},
    "the edge of stability": {"optimizer": FAST, "epochs": 60, "batch_size": 96},
    "past convergence": {"optimizer": GOOD, "epochs": 100},
    "a declared schedule": {"optimizer": sgd(schedules.cosine(0.5, 180)), "epochs": 30},
}


@pytest.mark.parametrize("name", HEALTHY)
def test_of_a_healthy_run_nothing_is_said(name: str) -> None:
    report, _ = report_on(**HEALTHY[name])
    assert report.ok, report
    allowed = {
        "stopped too early",
        "at the edge of stability",
        "rate still too high at the end",
        "overfits",
        "lack of regularization",
    }
    assert {row.name for row in report.rows} <= allowed, report
    assert set(report.not_looked_at) & set(report.fine) == set()


def synthetic(**changes: Any) -> Watched:
    """A healthy run of 10 epochs as it would have been watched, with some of its numbers changed."""
    epochs, steps = 11, 100
    step = np.arange(0, 10 * steps, 10)
    cost = np.linspace(1.0, -0.9, steps).clip(0.05)
    looks = np.linspace(1.0, -0.9, epochs).clip(0.05)
    facts = {
        "parameters": ["0.b", "0.w", "2.b", "2.w"],
        "layers": ["0", "1", "2"],
        "activations": ["1"],
        "probe_bounds": [1.0, 0.0],
        "training_bounds": [1.0, 0.0],
        "validates": True,
        "resolution": 1e-5,
        "labels": True,
        "batch_size": 16,
        "steps_per_epoch": 100,
    }
    made: dict[str, Any] = {
        "facts": facts,
        "steps": {
            "step": step,
            "cost": cost,
            "change": np.full(steps, -0.005),
            "predicted": np.full(steps, -0.01),
            "gradient_norm": np.ones((steps, 4)),
            "update_norm": np.ones((steps, 4)),
            "parameter_norm": np.ones((steps, 4)),
            "lost": np.zeros((steps, 4)),
        },
        "looks": {
            "step": np.arange(epochs) * 100,
            "loss": looks,
            "training_loss": looks,
            "error": np.full(epochs, 0.01),
            "training_error": np.full(epochs, 0.01),
            "spikes": np.zeros(epochs),
            "dead": np.zeros((epochs, 3)),
            "saturated": np.zeros((epochs, 3)),
            "spread": np.linspace(0.0, 1.0, epochs),
            "travel": np.full((epochs, 4), 0.1),
            "gradient_norm": np.ones((epochs, 4)),
            "parameter_norm": np.ones((epochs, 4)),
            "signal": np.full(epochs, 1.0),
            "noise": np.full(epochs, 20.0),
        },
        "losses": {"best_losses": np.zeros(64), "last_losses": np.zeros(64)},
    }
    for path, value in changes.items():
        part, name = path.split("__")
        made[part][name] = value(made[part][name]) if callable(value) else value
    lists = {
        part: {name: np.asarray(v).tolist() if part != "facts" else v for name, v in made[part].items()}
        for part in made
    }
    return Watched.of_lists({**lists, "costs": []})


def high(values: np.ndarray) -> np.ndarray:
    return np.full(len(values), 0.9)


def at(place: Any, value: float) -> Any:
    def changed(values: np.ndarray) -> np.ndarray:
        values = np.array(values)
        values[place] = value
        return values

    return changed


SLOPE, FLAT = np.linspace(1.0, 0.9, 11), np.full(100, -1e-9)
THREE = [60, 70, 80]
SYNTHETIC: dict[str, dict[str, Any]] = {
    "diverges": {"looks__training_loss": at(slice(-3, None), 4.0)},
    "learning rate too high": {"steps__change": at(slice(0, 8), 0.01), "steps__step": lambda s: s // 10},
    "learning rate too low": {
        "steps__change": np.full(100, -0.0099),
        "looks__training_loss": np.linspace(1.0, 0.9, 11),
    },
    "learning rate too low, beyond rounding": {"steps__predicted": FLAT, "looks__training_loss": SLOPE},
    "stopped too early": {"looks__loss": np.linspace(1.0, 0.3, 11)},
    "a layer stands still, frozen": {"looks__travel": at((slice(None), slice(0, 2)), 1e-7)},
    "every gradient is clipped": {},
    "rate decayed too early": {"looks__training_loss": high},
    "optimizer's ε rules": {"looks__training_loss": high},
    "units are saturated": {
        "looks__saturated": at((slice(None), 1), 0.9),
        "looks__gradient_norm": at((slice(None), slice(0, 2)), 1e-4),
        "looks__training_loss": high,
    },
    "gradients vanish": {
        "steps__gradient_norm": at((slice(50, None), slice(0, 2)), 1e-5),
        "looks__training_loss": high,
    },
    "gradients explode": {"steps__gradient_norm": at(THREE, 1e3), "steps__change": at(THREE, 1.0)},
    "noise rules": {"looks__signal": np.full(11, 1e-3), "looks__training_loss": high, "steps__cost": high},
    "loss spikes": {"looks__spikes": np.full(11, 0.05), "looks__training_loss": high},
    "a layer stands still": {"steps__lost": at((slice(None), 1), 0.9)},
    "rate still too high at the end": {
        "steps__change": at(slice(-20, None), -0.001),
        "steps__cost": at(slice(-20, None), 0.1),
    },
    "memorizes without learning": {
        "looks__loss": np.linspace(1.0, 1.5, 11),
        "looks__training_loss": np.linspace(1, 0.3, 11),
    },
    "validation better than training": {"looks__training_loss": lambda a: a + 0.2},
    "ReLUs die": {"looks__dead": at((slice(5, None), 1), 1.0), "looks__spread": np.zeros(11)},
}


@pytest.mark.parametrize("name", SYNTHETIC)
def test_the_numbers_of_a_fault_give_its_verdict(name: str) -> None:
    history = {"cost": np.linspace(1, 0.1, 10).tolist(), "step": (np.arange(1, 11) * 100).tolist()}
    params = MODEL.init(jax.random.key(0), jnp.zeros((1, 4)))
    state = TrainState.create(params, ADAM, jax.random.key(0))._replace(step=jnp.asarray(1000))
    moments = jax.tree.map(lambda v: v + 1e-20, state.opt_state.v)  # 1e-10 are smaller than 1e-8
    given = {
        "every gradient is clipped": {"optimizer": chain(clip_by_global_norm(1e-3), sgd(0.3))},
        "rate decayed too early": {"optimizer": sgd(schedules.cosine(0.02, 100))},
        "optimizer's ε rules": {
            "optimizer": ADAM,
            "state": state._replace(opt_state=state.opt_state._replace(v=moments)),
        },
    }.get(name, {})
    healthy = diagnose(history, COST, watch=synthetic())
    assert healthy.rows == (), healthy
    found = diagnose(history, COST, watch=synthetic(**SYNTHETIC[name]), **given)[name.partition(",")[0]]
    notes = {"every gradient is clipped": "note", "loss spikes": "note", "ReLUs die": "exact"}
    assert found.certainty == notes.get(name, "suspected")
    layers = {"gradients vanish": "0", "a layer stands still": "0", "ReLUs die": "1", "units are saturated": "1"}
    assert found.layer == layers.get(found.name)


@pytest.mark.parametrize(
    ("radius", "name"), [(0.05, "memory does not reach back"), (4.0, "state explodes through time")]
)
def test_recurrence(radius: float, name: str) -> None:
    """The gradients of the carries are those of ``gradient_flow`` where there is a single unit."""
    layer = Recurrent(RNNCell(1, activation=jnp.sinh), return_sequences=False)
    x = 0.001 * jnp.ones((16, 12, 1)) if radius > 1 else jnp.asarray(RANDOM.standard_normal((16, 12, 1)), "float32")
    params = {"w_x": jnp.full((1, 1), 1e-6), "w_h": jnp.full((1, 1), radius), "b": jnp.zeros(1)}
    norms = carry_gradients(layer, params, x)
    np.testing.assert_allclose(norms / norms[-1], gradient_flow(layer, params, x).norms, rtol=1e-4)

    cost, optimizer = Cost(sequential(layer, Dense(1)), losses.squared_error), sgd(1e-9)
    y = jnp.asarray(RANDOM.standard_normal((16, 1)), "float32")
    params = (params, random_params(Dense(1), y))
    made = fit(cost, optimizer, params, (x, y), key=jax.random.key(0), epochs=1, batch_size=16)
    row = diagnose(made, cost, data=(x, y))[name]
    assert row.layer == "0"
    assert row.certainty == "suspected"


def test_without_a_watch_only_what_the_history_has_is_looked_at() -> None:
    history = {"epoch": [1, 2, 3], "step": [3, 6, 9], "cost": [1.0, 0.5, 0.4]}
    report = diagnose(history, COST)
    assert report.fine == ("not finite", "a penalty rules")
    assert report.ok
    assert not report.rows
    assert set(report.not_looked_at) == set(CHECKS) - set(report.fine)
    records = [dict(zip(history, values, strict=True)) for values in zip(*history.values(), strict=True)]
    assert str(diagnose(records, COST)) == str(report)
    assert diagnose({**history, "cost": [1.0, 0.5, np.nan]}, COST)["not finite"].sick
    waived = diagnose(history, COST, leave_out=["not finite"])
    assert waived.not_looked_at["not finite"] == "left out"
    assert "not finite" not in waived.fine


def test_targets_that_are_all_equal_leave_nothing_to_learn() -> None:
    report, _ = report_on(GOOD, 3, data=(DATA[0], np.zeros(96, np.int32)), validation=(DATA[0], np.zeros(96, np.int32)))
    assert report.ok, report
    assert "nothing to learn" in report.not_looked_at["overfits"]


def test_the_statistics_are_those_of_their_definitions() -> None:
    x = np.array([0.0, 1.0, 2.0, 4.0])
    assert theil_sen(x, np.array([1.0, 3.0, 5.0, 100.0])) == np.median([2, 2, 99 / 4, 2, 97 / 3, 95 / 2])
    assert neighbours(standard_columns(x), 1)[:, 0].tolist() == [1, 0, 1, 2]
    differences = np.array([1.0, 2.0, 3.0, 4.0])
    assert z_of(differences) == pytest.approx(2.5 / (np.std(differences, ddof=1) / 2))
    assert [z_of(np.ones(4)), z_of(-np.ones(4)), z_of(np.zeros(4)), z_of(np.ones(1))] == [99, -99, 0, 0]
