"""The benchmarks: processes, rounds, ratios, reports and the command line. No test depends on a measured time."""

import json
import os
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import fnnet
from experiments import cli
from experiments.benchmarks import (
    conv,
    conv_contenders,
    conv_task,
    harness,
    mlp,
    pool,
    pool_contenders,
    report,
    training,
)
from experiments.benchmarks.__main__ import BENCHMARKS
from experiments.benchmarks.harness import Comparison, Result, compare, ratio, rotated
from experiments.benchmarks.mlp_contenders import fnnet_autodiff, fnnet_manual
from experiments.benchmarks.mlp_task import Task, batches, mean_loss
from experiments.benchmarks.pool_task import Task as PoolTask
from experiments.benchmarks.training_contenders import fnnet_memory, fnnet_stream

TINY = Task(hidden=(16,), batch_size=8, examples=100, seed=0)


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    """The pause before each round is for measurements only."""
    monkeypatch.setattr(harness, "REST", 0)


# The contenders of these tests are top-level functions, because their processes find them by name.
def counting(start):
    count = start

    def work():
        nonlocal count
        count += 1
        return count

    return work


def large(start):
    memory = np.ones(100 * 2**20, np.uint8)
    return lambda: float(memory[0])


def missing(start):
    import a_library_that_nobody_has  # noqa: F401


def failing(start):
    return lambda: 1 / start


def dying(start):
    return lambda: os._exit(1)


def test_compare_keeps_each_state_and_memory_apart_and_names_the_missing():
    ballast = np.ones(300 * 2**20, np.uint8)  # memory of this process, which must not count as a contender's
    announced = []
    comparison = compare(
        {"counting": counting, "again": counting, "large": large, "missing": missing}, 10, 2, announced.append
    )
    assert list(comparison.results) == ["counting", "again", "large"]
    assert comparison.results["counting"].value == comparison.results["again"].value == 13
    assert all(len(result.seconds) == 2 for result in comparison.results.values())
    assert "a_library_that_nobody_has" in comparison.skipped["missing"]
    peaks = {name: result.peak_mib for name, result in comparison.results.items()}
    assert 90 < peaks["large"] - peaks["counting"] < 110
    assert peaks["counting"] < ballast.nbytes / 2**20
    assert [text for text in announced if "round" in text] == [
        "again: round 1 of 2", "large: round 1 of 2", "counting: round 1 of 2",
        "large: round 2 of 2", "counting: round 2 of 2", "again: round 2 of 2",
    ]  # fmt: skip


def test_compare_in_fresh_processes_joins_their_rounds():
    one, two = (compare({"counting": counting}, 10, 1, processes=n).results["counting"] for n in (1, 2))
    assert (len(one.seconds), len(two.seconds)) == (1, 2)
    assert one.value == two.value  # the second process starts counting anew


@pytest.mark.parametrize(("contender", "error"), [(failing, ZeroDivisionError), (dying, BrokenProcessPool)])
def test_an_error_in_a_process_names_the_contender(contender, error):
    with pytest.raises(error) as caught:
        compare({"the broken one": contender}, 0, 1)
    assert "the broken one" in caught.value.__notes__[0]


def test_compare_needs_a_round():
    with pytest.raises(ValueError, match="rounds is 0"):
        compare({}, None, 0)


def test_the_ratio_is_the_median_of_those_of_the_rounds():
    slow, fast = Result(0, (2.0, 30.0, 6.0), 0, 0), Result(0, (1.0, 10.0, 2.0), 0, 0)
    assert ratio(slow, fast) == 3


def test_rotated():
    assert [rotated(["a", "b", "c"], n) for n in (0, 1, 3)] == [["a", "b", "c"], ["b", "c", "a"], ["a", "b", "c"]]
    assert rotated([], 1) == []


def test_report_with_and_without_the_reference(tmp_path):
    results = {"ours": Result(9.0, (1.0, 1.0), 0.5, 100.0), "theirs": Result(9.0, (2.0, 4.0), 0.5, 100.0)}
    comparison = Comparison(results, {"third": "No module named 'third'"})
    report.write_json(tmp_path / "new" / "x.json", report.as_json(comparison, "ours"))
    kept = json.loads((tmp_path / "new" / "x.json").read_text())
    assert kept["results"]["theirs"]["ratio"] == 3
    assert kept["results"]["theirs"]["seconds"] == [2, 4]
    assert report.as_json(comparison, "third")["results"]["theirs"]["ratio"] is None
    console = Console(width=80)
    with console.capture() as capture:
        console.print(report.table("title", comparison, "ours", "loss"))
    assert "3.00" in capture.get()
    assert "third skipped: No module named 'third'" in capture.get()


def test_task_is_shaped_like_mnist():
    x, y = TINY.data()
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((100, 784), np.float32, (100,), np.int32)
    assert x.min() == 0
    assert x.max() < 1
    assert (x > 0).mean() == pytest.approx(0.2, abs=0.01)
    assert len(set(y.tolist())) == 10
    np.testing.assert_array_equal(TINY.data()[0], x)


def test_batches_are_all_examples_once_and_the_mean_loss_is_over_examples():
    x, y = np.arange(10.0), np.arange(10)
    epoch = list(batches(x, y, 4, np.random.default_rng(0)))
    assert [len(labels) for _, labels in epoch] == [4, 4, 2]
    assert all((rows == labels).all() for rows, labels in epoch)
    order = np.concatenate([labels for _, labels in epoch])
    assert sorted(order) == list(range(10))
    assert list(order) != list(range(10))
    task = Task(hidden=(), batch_size=4, examples=10, seed=0)
    assert mean_loss([labels.mean() for _, labels in epoch], task) == pytest.approx(4.5)


def test_fnnets_contenders_train_and_agree():
    by_hand, by_autodiff = ([epoch() for _ in range(3)] for epoch in (fnnet_manual(TINY), fnnet_autodiff(TINY)))
    assert by_hand[2] < by_hand[0]
    np.testing.assert_allclose(by_hand, by_autodiff, rtol=1e-4)


def test_command_line(capsys):
    assert cli.main("benchmarks", BENCHMARKS, arguments=["mpl"]) == 2
    assert "did you mean 'mlp'?" in capsys.readouterr().err
    assert cli.main("benchmarks", BENCHMARKS, arguments=["mlp", "--only", "fnnet-manual", "keras"]) == 1
    assert "no contender is called keras" in capsys.readouterr().err
    assert cli.main("benchmarks", BENCHMARKS, arguments=["list"]) == 0
    assert "mlp" in capsys.readouterr().out


def test_the_convolution_baseline_takes_part():
    assert conv.BASELINE in conv.CONTENDERS


@pytest.mark.parametrize("part", ["forward", "both"])
@pytest.mark.parametrize(
    "task",
    [conv_task.Task(2, (6, 5), 4, 6, 3, stride=2, padding=1, groups=2), conv_task.Task(2, (8,), 3, 4, 3, dilation=2)],
    ids=str,
)
def test_convolution_contenders_run(task, part, monkeypatch):
    monkeypatch.setattr(conv_task.Task, "repeats", 1)
    task = replace(task, part=part)
    for contender in (conv_contenders.fnnet_by_hand, conv_contenders.lax_autodiff):
        assert contender(task)() >= 0
    x, w, dy = task.arrays()
    y = fnnet.convolution.convolve(
        x, w, stride=task.stride, padding=task.padding, dilation=task.dilation, groups=task.groups
    )
    assert y.shape == dy.shape


def test_convolution_tasks_count_their_operations():
    task = conv_task.Task(2, (6, 5), 4, 6, 3, part="forward")
    assert task.operations == 2 * (2 * 4 * 3 * 6) * (3 * 3 * 4)
    assert replace(task, part="both").operations == 3 * task.operations
    assert str(task) == "2, 6×5, 4 → 6, 3²"
    assert len(set(map(str, conv_task.TASKS))) == len(conv_task.TASKS) >= 13


def test_convolution_table_with_and_without_pytorch():
    task = conv_task.Task(2, (6, 5), 4, 6, 3)
    results = {name: Result(0, (seconds,), value, 0) for name, seconds, value in (
        ("fnnet", 1.0, 0.5), ("lax", 4.0, 2.0), ("pytorch", 3.0, float("nan")), ("pytorch-channels-last", 2.0, 0.0)
    )}  # fmt: skip
    console = Console(width=120)
    with console.capture() as capture:
        console.print(conv.table("both", [(task, Comparison(results, {}))]))
        console.print(conv.table("both", [(task, Comparison(dict(list(results.items())[:2]), {"pytorch": "no"}))]))
    first, second = (line for line in capture.get().splitlines() if "4 → 6" in line)
    assert first.split()[-5:] == [f"{1000 / task.repeats:.3f}", "4.00", "2.00", "0.50", "2.00"]
    assert second.split()[-4:] == [f"{1000 / task.repeats:.3f}", "4.00", "0.50", "2.00"]


def test_training_from_a_stream_is_training_from_memory():
    memory, stream = ([epoch() for _ in range(2)] for epoch in (fnnet_memory(TINY), fnnet_stream(TINY)))
    assert memory[1] < memory[0]
    np.testing.assert_allclose(stream, memory, rtol=1e-4)


@pytest.mark.parametrize("benchmark", [mlp, conv, pool, training])
def test_the_reference_takes_part(benchmark):
    assert benchmark.REFERENCE in benchmark.CONTENDERS


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 2)])
def test_pooling_contenders_on_xla_agree(window, stride):
    task = PoolTask(shape=(2, 7, 8, 3), window=window, stride=stride, repeats=2, seed=0)
    means = [getattr(pool_contenders, name)(task)() for name in ("fnnet_manual", "fnnet_autodiff", "xla")]
    assert means[0] > 0.1
    np.testing.assert_allclose(means, means[0], rtol=1e-6)


def test_pooling_command_line(tmp_path, capsys):
    output = tmp_path / "pool.json"
    arguments = ["pool", "--setup", "halved", "--rounds", "1", "--repeats", "1", "--only", "fnnet-manual"]
    assert cli.main("benchmarks", BENCHMARKS, arguments=[*arguments, "--output", str(output)]) == 0
    assert "halved: images 128×24×24×20, windows 2×2" in " ".join(capsys.readouterr().out.split())
    assert json.loads(output.read_text())["setups"]["halved"]["results"]["fnnet-manual"]["ratio"] == 1
    assert cli.main("benchmarks", BENCHMARKS, arguments=["pool", "--only", "caffe"]) == 1
