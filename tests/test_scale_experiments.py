"""Small runs of the experiments with many networks and many devices, and of the benchmark of a sweep."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import scaling, sweep
from experiments.benchmarks.sweep_contenders import one_after_the_other, sweep_on_one_device
from experiments.benchmarks.sweep_task import Task
from experiments.cli import ExperimentError


def records(runs: Path, name: str) -> list[dict[str, float]]:
    (path,) = runs.glob(f"{name}/*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_sweep(tmp_path: Path) -> None:
    sweep.run(
        sweep.Config(
            rates=2, seeds=2, lowest_rate=1e-4, highest_rate=1e-2, hidden=8, epochs=2, cpu_devices=1, runs=tmp_path
        )
    )
    rows = records(tmp_path, "sweep")
    assert [row["seed"] for row in rows] == [0, 1, 0, 1]
    assert len({row["cost"] for row in rows}) == 4
    assert min(row["validation_accuracy"] for row in rows[2:]) > max(row["validation_accuracy"] for row in rows[:2])
    assert list(tmp_path.glob("sweep/*/accuracy.png"))


def test_scaling(tmp_path: Path) -> None:
    scaling.run(scaling.Config(hidden=8, examples=64, batch_size=32, epochs=2, runs=tmp_path))
    row = records(tmp_path, "scaling")[0]
    assert row["data"] == row["processes"] == 1
    assert row["seconds"] > 0


def test_scaling_refuses_what_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="--processes is 2, but --coordinator is missing"):
        scaling.run(scaling.Config(processes=2, runs=tmp_path))
    with pytest.raises(ExperimentError, match="--epochs is 1; expected at least 2"):
        scaling.run(scaling.Config(epochs=1, runs=tmp_path))
    for model in (3, 16):
        with pytest.raises(ExperimentError, match=f"--model is {model}, but the number of devices is 1; expected"):
            scaling.run(scaling.Config(model=model, runs=tmp_path))


def test_the_contenders_train_the_same_networks() -> None:
    task = Task(networks=2, steps=4, batch_size=8, hidden=(4,), examples=16)
    assert task.epochs == 2
    np.testing.assert_allclose(sweep_on_one_device(task)(), one_after_the_other(task)(), rtol=1e-5)
