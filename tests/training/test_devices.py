"""One run on one device, on eight, and on those of two processes: the same numbers."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Checkpoint
from fnnet.paths import named_leaves
from tests.haste import environment
from tests.training import streams_on_devices

ROOT = Path(__file__).parents[2]
SECONDS = 240  # after which a test gives up on a process


def start(folder: Path, devices: int, *arguments: str) -> "subprocess.Popen[str]":
    """A process with so many devices of its own."""
    command = [sys.executable, "-m", "tests.training.on_devices", str(folder), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment(devices), **pipes)  # type: ignore[call-overload, no-any-return]


def start_two(folder: Path, *arguments: str) -> list["subprocess.Popen[str]"]:
    """Two processes of one run, with two devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = ("--processes", "2", "--port", str(port))
    return [start(folder, 2, *arguments, *options, "--process", str(i)) for i in range(2)]


def said(process: "subprocess.Popen[str]", word: str) -> None:
    """Waits for a line that begins so."""
    assert process.stdout is not None
    assert any(line.startswith(word) for line in process.stdout), process.communicate()


@pytest.fixture
def ended() -> Iterator[list[Any]]:
    """Processes that do not outlive their test."""
    processes: list[Any] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


RUNS = ("data-float32", "data-float64", "model-float32", "model-float64")
STREAMS = ("data-float64-stream", "model-float32-stream", "data-float64-uneven", "model-float64-uneven")
IN_TWO = ("data-float64", "model-float64", "model-float64-stream", "data-float64-uneven")


@pytest.fixture(scope="module")
def eight_devices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what eight devices made: one of them, all together, and in four pairs."""
    folder = tmp_path_factory.mktemp("devices")
    ones = "one-float32", "one-float64", "one-float64-uneven"
    process = start(folder, 8, *ones, *RUNS, *STREAMS, "sweep-float32")
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    return folder


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with what two processes of two devices made, each of which gives its half of the data."""
    folder = tmp_path_factory.mktemp("processes")
    processes = start_two(folder, *IN_TWO, "data-float32-refusals")
    try:
        for process in processes:
            _, errors = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, errors
        yield folder
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def assert_as_on_one(folder: Path, run: str, one: Path) -> None:
    """As one device that has all the data in memory."""
    dtype, uneven = run.split("-")[1], "-uneven" * run.endswith("uneven")
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    found, expected = np.load(folder / f"{run}.npz"), np.load(one / f"one-{dtype}{uneven}.npz")
    assert set(found) == set(expected)
    for name, value in expected.items():
        error = np.abs(found[name] - value).max() / np.abs(value).max()
        assert error <= tolerance, f"{run}, {name}: off by {error:.1e}"


@pytest.mark.slow
@pytest.mark.parametrize("run", [*RUNS, *STREAMS])
def test_eight_devices(eight_devices: Path, run: str) -> None:
    """105 updates with dropout, random changes, batch normalization and Adam; data 8, and data 4 × model 2.

    Or few updates from an uneven stream, whose last batch is filled up.
    """
    assert_as_on_one(eight_devices, run, eight_devices)


@pytest.mark.slow
def test_a_sweep_over_eight_devices(eight_devices: Path) -> None:
    """Ten runs: two on some of the devices, one on others."""
    one, everywhere = (np.load(eight_devices / f"sweep-{name}.npz") for name in ("one", "all"))
    assert set(one) == set(everywhere)
    for name, values in one.items():
        assert len(values) == 10
        np.testing.assert_allclose(everywhere[name], values, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("run", IN_TWO)
def test_two_processes_of_two_devices(eight_devices: Path, two_processes: Path, run: str) -> None:
    """Each gives its half of the data, of a smaller last batch four examples and two."""
    assert_as_on_one(two_processes, run, eight_devices)


LIKE = "fit: the processes have as "
SAID_BY_BOTH = {
    "batches": LIKE + "batches 2, 3, in their order; expected the same in each",
    "batch size": LIKE + "batch_size 8, 16, in their order; expected the same in each",
    "drop_last": LIKE + "drop_last False, True",
    "smaller": LIKE + "a smaller last batch False, True",
    "dtype": LIKE + "y of an example int32 (), int8 ()",
    "shape": LIKE + "y of an example int32 (), float32 (3,)",
    "devices": "fit: batch_size is 3 in each of 2 processes, 6 in all, which 4 devices cannot share "
    "evenly; expected a multiple of 2, such as 4",
    "unknown": "the number of examples in the stream of each process is not known; with several processes pass",
    "filled up": "would enter the moments of BatchNorm",
    "end": "fit: the stream of process 1 ended before the others; expected as many batches in each process",
    "too few": "fit: the stream gave 2 batches in this epoch; expected 3",
    "too many": "fit: the stream gave 4 batches or more in this epoch; expected 3",
    "validation": "fit: validation: the processes have as batch_size 8, 16",
    "loss": "fit: the processes have as cost.loss fnnet.losses.classes.softmax_cross_entropy, fnnet.losses.",
    "width": "fit: the processes have as cost.model.features 3, 4, in their order; expected the same in each",
    "optimizer": "fit: the processes have as optimizer.update.learning_rate 0.1, 1.1, in their order",
    "key": "fit: the processes have as key [0, 0], [0, 1], in their order",
    "epochs": "fit: the processes have as epochs 1, 2, in their order",
}
SAID_BY_EACH = {
    "label": ("fit: the data of process 1 cannot be used: ValueError: fit: the first batch", "label 9 (first at"),
    "none": ("fit: the data of process 1 cannot be used: ValueError: data.Stream: there is no batch", "there is no"),
}


@pytest.mark.slow
def test_both_processes_stop_where_their_streams_do_not_fit(two_processes: Path) -> None:
    """Before they are used, or when one ends or breaks down before the other: neither waits for ever."""
    said = [json.loads((two_processes / f"said-{i}.json").read_text()) for i in range(2)]
    expected = {name: (both, both) for name, both in SAID_BY_BOTH.items()} | SAID_BY_EACH
    assert [set(each) for each in said] == [set(expected)] * 2
    for name, words in expected.items():
        for each, part in zip(said, words, strict=True):
            assert part in each[name], name


@pytest.mark.slow
def test_what_is_not_finite_in_a_stream_of_two_processes(two_processes: Path) -> None:
    """In the batch that both have filled up; the real examples have the changes of their places in it."""
    found = np.load(two_processes / "non-finite.npz")
    assert "comes after 3 updates, forward, in the loss" in str(found["said"])
    np.testing.assert_array_equal(found["y"], np.full((16, 1), 1e30, "float32"))
    filled, real = np.zeros((16, 3), "float32"), [0, 1, 2, 3, 8, 9]
    filled[real] = streams_on_devices.X[48:]
    step_key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), 2), 3)
    x, _ = streams_on_devices.changed(step_key, (jnp.asarray(filled), None))
    np.testing.assert_allclose(found["x"][real], x[np.array(real)], rtol=1e-6)


@pytest.mark.slow
def test_a_stream_that_breaks_down_ends_both_processes(eight_devices: Path, tmp_path: Path, ended: list[Any]) -> None:
    """One of two breaks down in the middle of the second epoch; what they have saved goes on on one device."""
    ended += start_two(tmp_path, "breaking")
    errors = [process.communicate(timeout=SECONDS)[1] for process in ended]
    assert all(process.returncode != 0 for process in ended)
    assert "process 1 could not make the next batch of its stream" in errors[0]
    assert "batch 3 could not be made: OSError: the disk is gone" in errors[1]
    assert max(int(path.name) for path in (tmp_path / "run").glob("[0-9]*")) in range(5, 8)
    with jax.enable_x64(True):
        checkpoint = Checkpoint(tmp_path / "run", updates=1)
        state, history = streams_on_devices.fit_classes(streams_on_devices.uneven(), epochs=2, checkpoint=checkpoint)
    expected = np.load(eight_devices / "one-float64-uneven.npz")
    assert history["step"] == [4, 8]
    for name, value in [*named_leaves(state.params), ("cost", history["cost"])]:
        np.testing.assert_allclose(value, expected[name], rtol=1e-12, atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_with_an_error(tmp_path: Path, ended: list[Any], killed: int) -> None:
    """Process 0 is the one that coordinates; either may go."""
    ended += start_two(tmp_path, "endless")
    said(ended[1 - killed], "epoch")
    ended[killed].send_signal(signal.SIGKILL)
    _, errors = ended[1 - killed].communicate(timeout=SECONDS)
    assert ended[1 - killed].returncode != 0
    # JAX ends a process without its coordinator itself, at once.
    assert ("another process of this run has probably ended", "another task died")[killed == 0] in errors


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint_on_other_devices(tmp_path: Path, ended: list[Any]) -> None:
    """Saved by two processes of two devices, one of them killed; ended by one process of eight, data 4 × model 2."""
    ended += start_two(tmp_path, "saving")
    for _ in range(2):
        said(ended[0], "saved")
    ended[1].send_signal(signal.SIGKILL)
    ended[0].communicate(timeout=SECONDS)
    assert ended[0].returncode != 0
    ended.append(start(tmp_path, 8, "resumed"))
    _, errors = ended[2].communicate(timeout=SECONDS)
    assert ended[2].returncode == 0, errors
    assert_as_on_one(tmp_path, "model-float64", tmp_path)
