"""One run on one device, on eight, and on those of two processes: the same numbers."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fnnet.optimizers import sgd
from fnnet.training.data import checked_data
from fnnet.training.fit import fit
from fnnet.training.mesh import OnMesh
from tests.haste import environment
from tests.training.problems import COST, DATA, PARAMS, key

pytestmark = pytest.mark.xdist_group("devices")  # one worker, so that what eight devices made is made once

ROOT = Path(__file__).parents[2]
SECONDS = 30  # in which a process notices that another is gone


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


@pytest.fixture(scope="module")
def eight_devices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what eight devices made: one of them, all together, and in four pairs."""
    folder = tmp_path_factory.mktemp("devices")
    process = start(folder, 8, "one-float32", "one-float64", *RUNS, "sweep-float32")
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return folder


def assert_as_on_one(folder: Path, run: str, one: Path) -> None:
    dtype = run.split("-")[1]
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    found, expected = np.load(folder / f"{run}.npz"), np.load(one / f"one-{dtype}.npz")
    assert set(found) == set(expected)
    for name, value in expected.items():
        error = np.abs(found[name] - value).max() / np.abs(value).max()
        assert error <= tolerance, f"{run}, {name}: off by {error:.1e}"


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_eight_devices(eight_devices: Path, run: str) -> None:
    """105 updates with dropout, batch normalization and Adam; data 8, and data 4 × model 2."""
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
def test_two_processes_of_two_devices(eight_devices: Path, tmp_path: Path, ended: list[Any]) -> None:
    """Each gives its half of the data."""
    runs = ("data-float64", "model-float64")
    ended += start_two(tmp_path, *runs)
    for process in ended:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    for run in runs:
        assert_as_on_one(tmp_path, run, eight_devices)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_with_an_error(tmp_path: Path, ended: list[Any], killed: int) -> None:
    """Process 0 is the one that coordinates; either may go."""
    ended += start_two(tmp_path, "endless")
    said(ended[1 - killed], "epoch")
    ended[killed].send_signal(signal.SIGKILL)
    began = time.monotonic()
    _, errors = ended[1 - killed].communicate(timeout=SECONDS)
    assert time.monotonic() - began < SECONDS
    assert ended[1 - killed].returncode != 0
    # JAX ends a process without its coordinator itself, at once.
    assert ("another process of this run has probably ended", "another task died")[killed == 0] in errors


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint_on_other_devices(tmp_path: Path, ended: list[Any]) -> None:
    """Saved by two processes of two devices, one of them killed; ended by one process of eight, data 4 × model 2."""
    pytest.importorskip("orbax.checkpoint")
    ended += start_two(tmp_path, "saving")
    for _ in range(2):
        said(ended[0], "saved")
    ended[1].send_signal(signal.SIGKILL)
    ended[0].communicate(timeout=SECONDS)
    assert ended[0].returncode != 0
    ended.append(start(tmp_path, 8, "resumed"))
    _, errors = ended[2].communicate(timeout=240)
    assert ended[2].returncode == 0, errors
    assert_as_on_one(tmp_path, "model-float64", tmp_path)


def mesh_of(*axes: str) -> Any:
    return jax.make_mesh((1,) * len(axes), axes)


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (("model",), ValueError, r"fit: mesh has the axes \('model',\); expected 'data', over which batches are split"),
    (("data", "other"), ValueError, r"fit: mesh has the axes \('data', 'other'\)"),
    (8, TypeError, r"fit: mesh is 8; expected a jax.sharding.Mesh: jax.make_mesh\(\(8,\), \(\"data\",\)\)"),
]


@pytest.mark.parametrize(("axes", "error", "message"), REFUSED)
def test_meshes_that_are_refused(axes: Any, error: type[Exception], message: str) -> None:
    mesh = mesh_of(*axes) if isinstance(axes, tuple) else axes
    with pytest.raises(error, match=message):
        fit(COST, sgd(0.1), PARAMS, DATA, key=key(), epochs=1, batch_size=5, mesh=mesh)


def abstract(**axes: int) -> OnMesh:
    """A mesh of devices that need not be there."""
    return OnMesh(jax.sharding.AbstractMesh(tuple(axes.values()), tuple(axes)))  # type: ignore[arg-type]


def test_a_batch_that_the_devices_cannot_share_is_refused() -> None:
    abstract(data=8).check_batch_size(16)
    with pytest.raises(
        ValueError, match=r"batch_size is 12, but the axis 'data' of the mesh has 8 devices; .* such as 16"
    ):
        abstract(data=8).check_batch_size(12)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([5, 6], r"fit: the processes have \[5, 6\] examples, in their order; expected as many in each: give all 5"),
        (
            [5, 5],
            r"fit: each process has 5 examples, 10 in all, which 4 devices cannot share evenly; leave out 2 of them",
        ),
    ],
)
def test_parts_of_the_data_that_do_not_fit_are_refused(
    lengths: list[int], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jax.experimental.multihost_utils.process_allgather", lambda own: np.array(lengths))
    with pytest.raises(ValueError, match=message):
        abstract(data=4).check_parts((np.zeros((5, 2)), np.zeros(5)), 2)


def test_the_set_is_checked_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the first device, which need not have room for all of it."""
    devices: list[Any] = []

    def recorded(*arguments: Any) -> Any:
        devices.append(jax.config.jax_default_device)
        return checked_data(*arguments)

    monkeypatch.setattr("fnnet.training.sources.checked_data", recorded)
    mesh = jax.make_mesh((1,), ("data",))
    fit(COST, sgd(0.1), PARAMS, DATA, key=key(), epochs=1, batch_size=5, validation=DATA, mesh=mesh)
    assert devices == [jax.local_devices(backend="cpu")[0]] * 2


def test_what_is_split_along_which_axis() -> None:
    pair = abstract(data=4, model=2)
    assert pair.split((6, 8)) == jax.P(None, "model")
    assert pair.split((6, 5)) == jax.P("model", None)
    assert pair.split((4, 4)) == jax.P("model", None)
    assert pair.split((5,)) == pair.split(()) == jax.P()
    assert pair.rows(16) == jax.P(("data", "model"))
    assert pair.rows(12) == jax.P(("data",))
    assert pair.rows(3) == jax.P()
    assert abstract(data=8).split((8, 8)) == jax.P()
