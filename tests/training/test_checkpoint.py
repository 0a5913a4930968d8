"""Runs that are saved and resumed, and checkpoints that are refused."""

import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Checkpoint, CheckpointError, Cost, FitResult, TrainState, fit, go_back, losses, read_record
from fnnet.optimizers import adam, add_noise, chain, sgd
from fnnet.training.snapshot import arrays_of
from tests.cases import random_params
from tests.compare import assert_close, assert_identical
from tests.training.problems import COST, DATA, LABELS, NETWORK, PARAMS, X, key

OPTIONS = {"batch_size": 4, "validation": DATA, "patience": 9}


def train(directory: Path | Checkpoint | None, epochs: int, **options: Any) -> FitResult:
    arguments = {"cost": NETWORK, "optimizer": adam(0.003), "params": random_params(NETWORK.model, X), "key": key()}
    arguments |= {"data": DATA, "epochs": epochs, "checkpoint": directory} | OPTIONS | options
    return fit(**arguments)


def numbers(result: FitResult) -> dict[str, list[float]]:
    return {name: values for name, values in result.history.items() if "seconds" not in name}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs of three updates each, of which the last three are kept."""
    directory = tmp_path_factory.mktemp("run")
    train(directory, 4)
    return directory


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run"))


def steps_in(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def test_a_resumed_run_is_the_uninterrupted_one(run: Path, tmp_path: Path) -> None:
    """Parameters, optimizer state, dropout, the order of the examples and the history, to the bit."""
    whole = train(None, 6)
    resumed = train(run, 6)
    assert_identical(resumed.state, whole.state)
    assert numbers(resumed) == numbers(whole)
    assert resumed.history["epoch"] == [1, 2, 3, 4, 5, 6]
    again = train(run, 6)  # nothing is left to do
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
        "patience": 3,
    }
    whole = train(None, 10, **options)
    stopped = len(whole.history["epoch"])
    assert int(whole.state.step) < 3 * (stopped - 1)
    train(tmp_path, stopped - 1, **options)
    resumed = train(tmp_path, 10, **options)
    assert_identical(resumed.state, whole.state)
    assert numbers(resumed) == numbers(whole)
    assert numbers(train(tmp_path, 10, **options)) == numbers(whole)


def test_the_record_of_another_run_is_kept(tmp_path: Path) -> None:
    """A new directory goes on with an old file; lines of a run stopped before its first save are made again."""
    path = tmp_path / "record.jsonl"
    path.write_text(json.dumps({"epoch": 1, "step": 3}) + "\n")

    def interrupt(state: TrainState, record: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", 1, record=path, callback=interrupt)
    assert [line["epoch"] for line in read_record(path)] == [1, 1]
    train(tmp_path / "run", 1, record=path)
    assert [line["epoch"] for line in read_record(path)] == [1, 1]
    train(tmp_path / "run", 2, record=path)
    assert [line["epoch"] for line in read_record(path)] == [1, 1, 2]


def test_keys_in_the_optimizers_state(tmp_path: Path) -> None:
    """A state with keys of its own, and a random key of the old kind."""
    options = {"cost": COST, "params": PARAMS, "validation": None, "patience": None}
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
        "patience": None,
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
    options |= {"optimizer": adam(0.01), "batch_size": 10, "validation": None, "patience": None}
    train(Checkpoint(tmp_path, keep=6), 6, find_non_finite=False, **options)
    for step in (5, 2):
        go_back(tmp_path, step)
        saved = train(tmp_path, step, **options)
        assert_identical(saved.state, train(None, step, **options).state)


def test_continuing_from_a_state_counts_its_epochs() -> None:
    options = {"cost": COST, "optimizer": sgd(0.1), "validation": None, "patience": None}
    half = train(None, 2, params=PARAMS, **options)
    both = train(None, 2, params=half.state, **options | {"key": None})
    assert half.history["epoch"] + both.history["epoch"] == [1, 2, 3, 4]


# What is refused


def largest_file(directory: Path) -> Path:
    return max((path for path in directory.rglob("*") if path.is_file() and "/d/" in str(path)), key=os.path.getsize)


def truncate(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_file() and "/d/" in str(path):
            os.truncate(path, path.stat().st_size // 2)


def flip_bits(directory: Path) -> None:
    path = largest_file(directory)
    content = bytearray(path.read_bytes())
    for i in range(len(content) // 2, len(content), 7):
        content[i] ^= 0xFF
    path.write_bytes(bytes(content))


def change_history(directory: Path) -> None:
    path = directory / "table" / "metadata"
    text = path.read_text()
    assert '"waited": 0' in text
    path.write_text(text.replace('"waited": 0', '"waited": 1'))


def cut_sums(directory: Path) -> None:
    path = directory / "sums.json"
    os.truncate(path, path.stat().st_size // 2)


def remove_arrays(directory: Path) -> None:
    shutil.rmtree(directory / "arrays")


@pytest.mark.parametrize("damage", [truncate, flip_bits, change_history, cut_sums, remove_arrays])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_offered(run: Path, damage: Any) -> None:
    damage(run / "12")
    with pytest.raises(CheckpointError, match=r"fit: checkpoint .*/12 .*damaged") as caught:
        train(run, 5)
    assert str(caught.value).endswith(
        "The one before it, 9, is whole: fnnet.go_back(directory, 9) removes what comes after it, then run again"
    )
    assert steps_in(run) == [6, 9, 12]
    if damage is flip_bits:
        go_back(run, 9)
        assert steps_in(run) == [6, 9]
        assert train(run, 4).history["epoch"] == [1, 2, 3, 4]
        assert steps_in(run) == [6, 9, 12]
        train(run, 4)  # its last checkpoint is whole again


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(7, args=ocp.args.Composite(table=ocp.args.JsonSave({"loss": 1.0})))
    with pytest.raises(
        CheckpointError, match=r"7 is not a checkpoint of fnnet's. There is none before it to go on from"
    ):
        train(tmp_path, 1)
    (tmp_path / "9").mkdir()
    with pytest.raises(CheckpointError, match="9 cannot be read"):
        train(tmp_path, 1)


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"optimizer": sgd(0.1)}, r"state.opt_state.\S+ is float32 \(4,\) in the checkpoint, absent in this run"),
    ({"key": key(1)}, r"key is \[0, 0\] in the checkpoint, \[0, 1\] in this run"),
    ({"batch_size": 5}, "data: batch_size is 4 in the checkpoint, 5 in this run"),
    ({"patience": None}, "data: early stopping is True in the checkpoint, False in this run"),
    ({"cost": Cost(NETWORK.model, losses.focal)}, "cost is .*softmax_cross_entropy.* in the checkpoint, .*focal"),
    (
        {"cost": COST, "params": PARAMS},
        r"state.params.0.b is float32 \(4,\) in the checkpoint, absent in this run.*and \d+ more. There is none before",
    ),
]


@pytest.mark.parametrize(("options", "message"), OTHERS, ids=[" ".join(options) for options, _ in OTHERS])
def test_a_checkpoint_of_another_run_is_refused(saved: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=r"12 is of another run: ") as caught:
        train(saved, 5, **options)
    assert re.search(message, str(caught.value))
    assert steps_in(saved) == [6, 9, 12]


def test_a_step_that_is_not_there(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"go_back: there is no step 5 in .*; there are \[6, 9, 12\]"):
        go_back(saved, 5)
    with pytest.raises(CheckpointError, match=r"go_back: .*/absent is no directory"):
        go_back(saved / "absent", 5)
    assert steps_in(saved) == [6, 9, 12]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As on a disk without room: the system refuses to write more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # orbax leaves the other writes behind
def test_a_full_disk(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((10, 20_000)).astype("float32")
    params = {"w": jnp.asarray(np.random.default_rng(1).standard_normal((20_000, 3)), "float32"), "b": jnp.zeros(3)}
    options = {
        "cost": COST,
        "params": params,
        "data": (x, LABELS),
        "validation": None,
        "patience": None,
        "optimizer": sgd(0.1),
    }
    train(tmp_path, 1, **options)
    with (
        no_file_larger_than(100_000),
        pytest.raises(CheckpointError, match=r"checkpoint 6 could not be written to .*; the last one saved is 3. Make"),
    ):
        train(tmp_path, 4, **options)
    assert steps_in(tmp_path) == [3]
    assert_identical(train(tmp_path, 2, **options).state, train(None, 2, **options).state)


@contextmanager
def without_rights() -> Iterator[None]:
    """As another user, if this one may write everywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    tmp_path.chmod(0o555)
    try:
        with without_rights():
            for directory in (folder, folder / "new"):
                with pytest.raises(CheckpointError, match=r"cannot be written to .*; choose a directory that you may"):
                    train(directory, 1)
            with pytest.raises(OSError, match=r"fit: record: .* cannot be written"):
                train(None, 1, record=folder / "record.jsonl")
    finally:
        tmp_path.chmod(0o755)
    assert not any(folder.iterdir())


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("orbax.checkpoint", "tensorboardX"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=r'fit: checkpoint needs orbax.checkpoint; .* pip install "fnnet\[checkpoint\]"'
    ):
        train(tmp_path, 1)
    with pytest.raises(
        ImportError, match=r'fit: tensorboard needs tensorboardX; .* pip install "fnnet\[tensorboard\]"'
    ):
        train(None, 1, tensorboard=tmp_path)


def test_names_that_collide() -> None:
    from fnnet.training.progress import Progress

    state = TrainState({"a.b": X, "a": {"b": X}}, (), jnp.zeros((), jnp.int32), key())
    with pytest.raises(ValueError, match="two arrays of the state have the same name"):
        arrays_of(Progress(state, {}))


def test_a_record_of_a_resumed_run_has_every_epoch_once(run: Path, tmp_path: Path) -> None:
    """Killed after epoch 5 was written down but before it was saved, in the middle of writing down epoch 6."""
    path = tmp_path / "record.jsonl"
    path.write_text("".join(json.dumps({"epoch": i, "step": 3 * i}) + "\n" for i in range(1, 6)))
    with path.open("a") as file:
        file.write('{"epoch": 6, "step": 18')
    assert [line["epoch"] for line in read_record(path)] == [1, 2, 3, 4, 5]
    (run / "record.json").write_text(json.dumps({"../record.jsonl": 0}))  # as if it had been written to from the start
    history = train(run, 7, record=path).history
    assert [line["epoch"] for line in read_record(path)] == [1, 2, 3, 4, 5, 6, 7]
    assert [line["cost"] for line in read_record(path)[4:]] == history["cost"][4:]
