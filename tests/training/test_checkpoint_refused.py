"""Checkpoints that are damaged, foreign or of another run, and places where none can be written."""

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

from fnnet import Checkpoint, CheckpointError, Cost, backprop, go_back, losses, schedules
from fnnet.optimizers import adam, nadam, sgd
from fnnet.training.callbacks import JsonLines, TensorBoard
from fnnet.training.checkpoint import Saver
from tests.compare import assert_identical
from tests.training.problems import COST, LABELS, NETWORK, PARAMS, X, key
from tests.training.saving import steps_in, train


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
    assert '"epoch": 4' in text
    path.write_text(text.replace('"epoch": 4', '"epoch": 3'))


def cut_sums(directory: Path) -> None:
    path = directory / "sums.json"
    os.truncate(path, path.stat().st_size // 2)


def remove_arrays(directory: Path) -> None:
    shutil.rmtree(directory / "arrays")


@pytest.mark.parametrize("damage", [truncate, flip_bits, change_history, cut_sums, remove_arrays])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_offered(copied_run: Path, damage: Any) -> None:
    damage(copied_run / "12")
    with pytest.raises(CheckpointError, match=r"fit: checkpoint .*/12 .*damaged") as caught:
        train(copied_run, 5)
    assert str(caught.value).endswith(
        "The one before it, 9, is complete: fnnet.go_back(directory, 9) removes the later ones, then run again"
    )
    assert steps_in(copied_run) == [6, 9, 12]
    if damage is flip_bits:
        go_back(copied_run, 9)
        assert steps_in(copied_run) == [6, 9]
        assert train(copied_run, 4).history["epoch"] == [1, 2, 3, 4]
        assert steps_in(copied_run) == [6, 9, 12]
        train(copied_run, 4)  # its last checkpoint is whole again


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
    (
        {"optimizer": adam(0.004)},
        r"optimizer.update.learning_rate is 0.003 in the checkpoint, 0.004 in this run \(if",
    ),
    ({"optimizer": adam(0.003, 0.8)}, "optimizer.update.beta1 is 0.9 in the checkpoint, 0.8 in this run"),
    (
        {"optimizer": nadam(0.003)},
        "optimizer.update.leaf is .*adam.<locals>.leaf in the checkpoint, .*nadam.<locals>.leaf",
    ),
    ({"optimizer": adam(schedules.step_decay(0.003, 0.5, 9))}, "optimizer.update.learning_rate.every is absent in"),
    ({"value_and_grad": backprop.value_and_grad}, "value_and_grad is jax.* in the checkpoint, fnnet.backprop"),
    (
        {"data": (X + 1, LABELS)},
        r"data.x is float32 \(10, 3\) \w+ in the checkpoint, float32 \(10, 3\) \w+ in",
    ),
    ({"optimizer": sgd(0.1)}, r"state.opt_state.\S+ is float32 \(4,\) in the checkpoint, absent in this run"),
    ({"key": key(1)}, r"key is \[0, 0\] in the checkpoint, \[0, 1\] in this run"),
    ({"batch_size": 5}, "data.batch_size is 4 in the checkpoint, 5 in this run"),
    ({"callbacks": []}, r"callbacks is \['EarlyStopping'\] in the checkpoint, \[\] in this run"),
    ({"cost": Cost(NETWORK.model, losses.focal)}, "cost.loss is .*softmax_cross_entropy.* in the checkpoint, .*focal"),
    (
        {"cost": COST, "params": PARAMS},
        r"state.params.b is absent in the checkpoint, float32 \(3,\) in this run.*and \d+ more. There is none before",
    ),
]


@pytest.mark.parametrize(("options", "message"), OTHERS, ids=[" ".join(options) for options, _ in OTHERS])
def test_a_checkpoint_of_another_run_is_refused(saved_run: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=r"12 is of another run: ") as caught:
        train(saved_run, 5, **options)
    assert re.search(message, str(caught.value))
    assert steps_in(saved_run) == [6, 9, 12]


def test_a_change_that_is_allowed(copied_run: Path) -> None:
    """The run goes on with the new rate, and says so in its next checkpoint."""
    result = train(Checkpoint(copied_run, allow=("optimizer",)), 5, optimizer=adam(0.004))
    assert result.history["epoch"] == [1, 2, 3, 4, 5]
    assert train(copied_run, 6, optimizer=adam(0.004)).history["epoch"][-1] == 6
    with pytest.raises(ValueError, match=r"Checkpoint: allow is .*'key'.*; expected a tuple of names from cost"):
        Checkpoint(copied_run, allow=("key",))
    with pytest.raises(ValueError, match="Checkpoint: allow is 'cost'; expected a tuple"):
        Checkpoint(copied_run, allow="cost")


def test_another_precision_of_products(saved_run: Path) -> None:
    with (
        jax.default_matmul_precision("float32"),
        pytest.raises(CheckpointError, match=r"precision is None in .* float32"),
    ):
        train(saved_run, 5)


def test_two_runs_in_one_directory(saved_run: Path) -> None:
    """The second is refused while the first lasts; that of a process which was killed is no longer in the way."""
    refused = pytest.raises(CheckpointError, match=rf"process {os.getpid()} on .* is saving to .*; wait until it has")
    with Saver(Checkpoint(saved_run), lambda snapshot: True), refused:
        train(saved_run, 5)
    assert (saved_run / "lock.json").exists()
    assert train(saved_run, 4).history["epoch"] == [1, 2, 3, 4]


def test_a_step_that_is_not_there(saved_run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"go_back: there is no step 5 in .*; there are \[6, 9, 12\]"):
        go_back(saved_run, 5)
    with pytest.raises(CheckpointError, match=r"go_back: .*/absent is not a directory"):
        go_back(saved_run / "absent", 5)
    assert steps_in(saved_run) == [6, 9, 12]


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
        "callbacks": [],
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
            with pytest.raises(OSError, match=r"callbacks.JsonLines: .* cannot be written"):
                train(None, 1, callbacks=[JsonLines(folder / "record.jsonl")])
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
        ImportError, match=r'callbacks.TensorBoard needs tensorboardX; .* pip install "fnnet\[tensorboard\]"'
    ):
        TensorBoard(tmp_path)
