"""The experiments with convolutions: their numbers and the files that they write."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from experiments import convolution, data, mnist_cnn
from experiments.benchmarks import cnn
from experiments.cli import ExperimentError
from tests.test_experiments import write_idx


def write_digits(folder: Path) -> None:
    """Write 60 and 20 images that a network can tell apart: the position of a bright block is the label."""
    for prefix, count in (("train", 60), ("t10k", 20)):
        labels = np.arange(count) % 10
        images = np.zeros((count, 28, 28))
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 4)
            image[8 * row + 2 : 8 * row + 8, 7 * column + 1 : 7 * column + 6] = 255
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3, "shift": 2}], ids=["plain", "augmented"])
def test_mnist_cnn_draws_curves_mistakes_and_filters(tmp_path: Path, options: dict[str, float]) -> None:
    write_digits(tmp_path)
    config = mnist_cnn.Config(data_dir=tmp_path, filters=(3, 4), hidden=8, epochs=2, batch_size=16, runs=tmp_path)
    mnist_cnn.run(mnist_cnn.Config(**(vars(config) | options)))
    (folder,) = (tmp_path / "mnist_cnn").iterdir()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all(np.isfinite(line["validation_cost"]) for line in lines)
    assert {path.name for path in folder.glob("*.png")} == {"curves.png", "mistakes.png", "filters.png"}


@pytest.mark.skipif("FNNET_DATA" not in os.environ, reason="FNNET_DATA is not set: no real MNIST")
def test_mnist_cnn_learns_the_real_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixth of them is enough."""
    (x, y), (test_x, test_y) = data.mnist()
    part = data.Split((x[:10_000], y[:10_000]), (test_x[:2_000], test_y[:2_000]))
    monkeypatch.setattr(data, "mnist", lambda folder: part)
    mnist_cnn.run(mnist_cnn.Config(epochs=1, runs=tmp_path))
    (folder,) = (tmp_path / "mnist_cnn").iterdir()
    assert json.loads((folder / "metrics.jsonl").read_text())["validation_accuracy"] >= 0.93


def test_no_epochs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="--epochs is 0; expected at least 1"):
        mnist_cnn.run(mnist_cnn.Config(epochs=0, runs=tmp_path))


def test_convolution_draws_and_agrees(tmp_path: Path) -> None:
    convolution.run(convolution.Config(filters=3, epochs=1, runs=tmp_path))
    (folder,) = (tmp_path / "convolution").iterdir()
    assert json.loads((folder / "metrics.jsonl").read_text())["worst_difference"] < 1e-12
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {"operation.png", "learned.png", "toeplitz.png", "singular_values.png"}


def test_the_benchmark_compares_both_engines(tmp_path: Path) -> None:
    path = tmp_path / "cnn.json"
    cnn.run(cnn.Config(batch_sizes=(4,), rounds=1, updates=2, only=("fnnet-manual", "fnnet-autodiff"), output=path))
    results = json.loads(path.read_text())["setups"]["4"]["results"]
    assert results["fnnet-manual"]["value"] == pytest.approx(results["fnnet-autodiff"]["value"], rel=1e-4)


def test_an_unknown_contender_is_refused() -> None:
    with pytest.raises(ExperimentError, match="no contender is called flaks"):
        cnn.run(cnn.Config(only=("flaks",)))
