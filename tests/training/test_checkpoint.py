"""Runs that are saved and resumed."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from fnnet import Checkpoint, FitResult, TrainState, go_back, read_record
from fnnet.optimizers import adam, add_noise, chain, sgd
from fnnet.training.callbacks import EarlyStopping, JsonLines, StopAtNonFinite
from tests.compare import assert_close, assert_identical
from tests.training.problems import COST, LABELS, PARAMS, X, key
from tests.training.saving import steps_in, train


def numbers(result: FitResult) -> dict[str, list[float]]:
    return {name: values for name, values in result.history.items() if "seconds" not in name}


def test_a_resumed_run_is_the_uninterrupted_one(copied_run: Path, tmp_path: Path) -> None:
    """Parameters, optimizer state, dropout, the order of the examples and the history, to the bit."""
    whole = train(None, 6)
    resumed = train(copied_run, 6)
    assert_identical(resumed.state, whole.state)
    assert numbers(resumed) == numbers(whole)
    assert resumed.history["epoch"] == [1, 2, 3, 4, 5, 6]
    again = train(copied_run, 6)  # nothing is left to do
    assert_identical(again.state, whole.state)
    assert again.history == resumed.history


def test_a_run_resumed_within_an_epoch(tmp_path: Path) -> None:
    """Parts of two updates: the third, of the last and smaller batch, ends the epoch."""
    whole = train(Checkpoint(tmp_path / "whole", updates=2, keep=9), 2)
    assert steps_in(tmp_path / "whole") == [2, 3, 5, 6]
    go_back(tmp_path / "whole", 2)
    resumed = train(Checkpoint(tmp_path / "whole", updates=2), 2)
    assert_identical(resumed.state, whole.state)
    assert numbers(resumed) == numbers(whole)
    at_once = train(None, 2)
    assert_close(resumed.state._replace(key=0), at_once.state._replace(key=0), 1e-5)
    assert_close(resumed.history["cost"], at_once.history["cost"], 1e-5)


def test_early_stopping_goes_on_as_it_was(tmp_path: Path) -> None:
    """The validation cost rises from an epoch on: the best state is made before the interruption, stopping after it."""
    options = {
        "cost": COST,
        "params": PARAMS,
        "optimizer": sgd(0.5),
        "validation": (X, (LABELS + 1) % 3),
        "callbacks": [EarlyStopping(3)],
    }
    whole = train(None, 10, **options)
    stopped = len(whole.history["epoch"])
    assert int(whole.state.step) < 3 * (stopped - 1)
    train(tmp_path, stopped - 1, **options)
    resumed = train(tmp_path, 10, **options)
    assert_identical(resumed.state, whole.state)
    assert numbers(resumed) == numbers(whole)
    assert numbers(train(tmp_path, 10, **options)) == numbers(whole)


def test_a_record_of_a_resumed_run_has_every_epoch_once(copied_run: Path, tmp_path: Path) -> None:
    """Killed after epoch 5 was written down but before it was saved, in the middle of writing down epoch 6."""
    path = tmp_path / "record.jsonl"
    path.write_text("".join(json.dumps({"epoch": i, "step": 3 * i}) + "\n" for i in range(1, 6)))
    with path.open("a") as file:
        file.write('{"epoch": 6, "step": 18')
    assert [line["epoch"] for line in read_record(path)] == [1, 2, 3, 4, 5]
    # As if it had been written to from the start:
    (copied_run / "record.json").write_text(json.dumps({"../record.jsonl": 0}))
    history = train(copied_run, 7, callbacks=[EarlyStopping(9), JsonLines(path)]).history
    assert [line["epoch"] for line in read_record(path)] == [1, 2, 3, 4, 5, 6, 7]
    assert [line["cost"] for line in read_record(path)[4:]] == history["cost"][4:]


def test_the_record_of_another_run_is_kept(tmp_path: Path) -> None:
    """A new directory goes on with an old file; lines of a run stopped before its first save are made again."""
    path = tmp_path / "record.jsonl"
    path.write_text(json.dumps({"epoch": 1, "step": 3}) + "\n")

    def interrupt(state: TrainState, record: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", 1, callbacks=[JsonLines(path), interrupt])
    assert [line["epoch"] for line in read_record(path)] == [1, 1]
    train(tmp_path / "run", 1, callbacks=[JsonLines(path)])
    assert [line["epoch"] for line in read_record(path)] == [1, 1]
    train(tmp_path / "run", 2, callbacks=[JsonLines(path)])
    assert [line["epoch"] for line in read_record(path)] == [1, 1, 2]


def test_keys_in_the_optimizers_state(tmp_path: Path) -> None:
    """A state with keys of its own, and a random key of the old kind."""
    options = {"cost": COST, "params": PARAMS, "validation": None, "callbacks": []}
    options |= {"optimizer": chain(add_noise(key(5), 0.1), sgd(0.1)), "key": jax.random.PRNGKey(3)}
    train(tmp_path, 1, **options)
    assert_identical(train(tmp_path, 2, **options).state, train(None, 2, **options).state)


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    """Every second epoch and the end; the lowest validation cost is the first."""
    heard: list[int] = []
    options = {
        "cost": COST,
        "params": PARAMS,
        "optimizer": sgd(0.5),
        "validation": (X, (LABELS + 1) % 3),
        "callbacks": [],
    }
    history = train(Checkpoint(tmp_path, every=2, keep=2, on_saved=heard.append), 9, **options).history
    costs = dict(zip(history["step"], history["validation_cost"], strict=True))
    assert heard == [6, 12, 18, 24, 27]
    best = min(heard, key=costs.__getitem__)
    assert steps_in(tmp_path) == sorted({best, 24, 27})
    assert best not in (24, 27)


def test_saving_while_the_state_is_given_up(tmp_path: Path) -> None:
    """The compiled epoch takes over the buffers of the state, while they are still being written."""
    params = {"w": jnp.ones((100_000, 3)), "b": jnp.zeros(3)}
    options = {"cost": COST, "params": params, "data": (jnp.tile(X, (1, 100_000 // 3 + 1))[:, :100_000], LABELS)}
    options |= {"optimizer": adam(0.01), "batch_size": 10, "validation": None, "callbacks": []}
    train(Checkpoint(tmp_path, keep=6), 6, **options | {"callbacks": [StopAtNonFinite(search=False)]})
    for step in (5, 2):
        go_back(tmp_path, step)
        saved = train(tmp_path, step, **options)
        assert_identical(saved.state, train(None, step, **options).state)


def test_continuing_from_a_state_counts_its_epochs() -> None:
    options = {"cost": COST, "optimizer": sgd(0.1), "validation": None, "callbacks": []}
    half = train(None, 2, params=PARAMS, **options)
    both = train(None, 4, params=half.state, **options | {"key": None})
    assert half.history["epoch"] + both.history["epoch"] == [1, 2, 3, 4]
