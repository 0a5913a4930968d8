"""The experiments: their numbers, their command line, their data and the files that they write."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import data, digits, mnist, results, worked_example
from experiments.__main__ import EXPERIMENTS
from experiments.cli import ExperimentError, keep_compiled_programs
from tests.runs import command_line

ROOT = Path(__file__).parents[1]


# The textbook prints three digits.
TEXTBOOK = {
    "Z1": [-0.04, 0.18],
    "A1": [0.490, 0.545],
    "Z2": [0.088],
    "A2": [0.522],
    "L": [0.114],
    "δ2": [-0.119],
    "dW2": [[-0.058, -0.065]],
    "δ1": [-0.009, 0.006],
}


class TestWorkedExample:
    def test_numbers_are_the_textbooks(self) -> None:
        lines = {line.symbol: line for line in worked_example.compute(learning_rate=0.5)}
        for symbol, expected in TEXTBOOK.items():
            np.testing.assert_allclose(lines[symbol].value, expected, atol=5.1e-4, rtol=0)

    def test_library_agrees_with_every_formula(self) -> None:
        lines = worked_example.compute(learning_rate=0.5)
        assert len(lines) == 18
        assert all(line.agrees for line in lines)

    def test_update_lowers_the_loss(self) -> None:
        lines = {line.symbol: line.value for line in worked_example.compute(learning_rate=0.5)}
        assert lines["L'"] < lines["L"]

    def test_prints_and_succeeds(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command_line("worked_example") == 0
        assert "0.114246" in capsys.readouterr().out


class TestDigits:
    def test_both_engines_learn_the_same(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert digits.run(digits.Config(runs=tmp_path)) == 0
        (folder,) = (tmp_path / "digits").iterdir()
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        last = {line["engine"]: line["validation_accuracy"] for line in lines}
        assert set(last) == {"autodiff", "by hand"}
        assert min(last.values()) >= 0.96
        assert {path.name for path in folder.iterdir()} == {
            "config.json",
            "metrics.jsonl",
            "summary.md",
            "curves.png",
            "activations.png",
            "mistakes.png",
        }
        assert "the engines agree" in " ".join(capsys.readouterr().out.split())

    def test_disagreement_is_a_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def doubled(cost):  # type: ignore[no-untyped-def]
            def run(*args, **options):  # type: ignore[no-untyped-def]
                value, grads = jax.value_and_grad(cost)(*args, **options)
                return value, jax.tree.map(lambda g: 2 * g + 1e-3, grads)

            return run

        monkeypatch.setitem(digits.ENGINES, "by hand", doubled)
        monkeypatch.setattr(digits, "draw", lambda *arguments: None)
        assert digits.run(digits.Config(hidden=4, epochs=1, runs=tmp_path)) == 1


class TestMnist:
    @pytest.mark.skipif("FNNET_DATA" not in os.environ, reason="FNNET_DATA is not set: no real MNIST")
    def test_learns_the_real_digits(self, tmp_path: Path) -> None:
        assert data.mnist().train[1][:6].tolist() == [5, 0, 4, 1, 9, 2]
        mnist.run(mnist.Config(runs=tmp_path, epochs=10))
        (folder,) = (tmp_path / "mnist").iterdir()
        last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["validation_accuracy"] >= 0.975

    def test_reads_plain_and_compressed_idx(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for prefix, count, ending in (("train", 30, ".gz"), ("t10k", 12, "")):
            write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{ending}", rng.integers(0, 256, (count, 28, 28)))
            write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte{ending}", np.arange(count) % 10)
        split = data.mnist(tmp_path)
        assert split.train[0].shape == (30, 28, 28)
        assert split.train[0].dtype == np.float32
        assert split.test[0].max() <= 1
        assert split.test[1].tolist() == [*range(10), 0, 1]

    def test_missing_folder_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command_line("mnist", "--data-dir", "/no/such/folder") == 1
        message = capsys.readouterr().err
        assert "no MNIST in the data folder /no/such/folder" in message
        assert "set FNNET_DATA" in message

    @pytest.mark.parametrize("damage", ["cut", "not gzip", "wrong type"])
    def test_damaged_file_is_named(self, tmp_path: Path, damage: str) -> None:
        path = tmp_path / "train-images-idx3-ubyte.gz"
        write_idx(path, np.zeros((3, 28, 28)))
        content = gzip.decompress(path.read_bytes())
        if damage == "cut":
            path.write_bytes(gzip.compress(content[:-5]))
        elif damage == "not gzip":
            path.write_bytes(b"hello")
        else:
            path.write_bytes(gzip.compress(b"\0\0\x0d" + content[3:]))
        with pytest.raises(ExperimentError, match=r"train-images-idx3-ubyte\.gz.*get the file again"):
            data.read_idx(path)

    def test_without_folder_and_network_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import sklearn.datasets

        def unreachable(*args: object, **options: object) -> None:
            raise OSError("Name or service not known")

        monkeypatch.delenv("FNNET_DATA", raising=False)
        monkeypatch.setattr(sklearn.datasets, "fetch_openml", unreachable)
        with pytest.raises(ExperimentError, match=r"could not be fetched from OpenML .*set FNNET_DATA"):
            data.mnist()


class TestCommandLine:
    def test_unknown_name_suggests_the_nearest(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command_line("digitz") == 2
        assert "there is no 'digitz'; did you mean 'digits'?" in capsys.readouterr().err

    def test_list_names_every_experiment(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command_line("list") == 0
        shown = capsys.readouterr().out
        assert all(name in shown for name in EXPERIMENTS)

    @pytest.mark.parametrize("name", EXPERIMENTS)
    def test_help_shows_the_options(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            command_line(name, "--help")
        assert stop.value.code == 0
        assert f"experiments {name}" in capsys.readouterr().out

    def test_module_runs_as_a_program(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "experiments", "worked_example"],
            cwd=ROOT,
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_compiled_programs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept in the user's cache directory, unless another directory is named."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for named, expected in ((None, str(tmp_path / "fnnet" / "compiled")), ("/elsewhere", "/elsewhere")):
        seconds = jax.config.jax_persistent_cache_min_compile_time_secs
        try:
            jax.config.update("jax_compilation_cache_dir", named)
            keep_compiled_programs()
            assert jax.config.jax_compilation_cache_dir == expected
        finally:
            jax.config.update("jax_compilation_cache_dir", None)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


def test_results_never_overwrite(tmp_path: Path) -> None:
    first = results.Results("name", worked_example.Config(), tmp_path)
    second = results.Results("name", worked_example.Config(), tmp_path)
    assert first.folder != second.folder


def test_results_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match=r"cannot make the results folder .*choose another --runs"):
        results.Results("name", worked_example.Config(), tmp_path / "file")


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
