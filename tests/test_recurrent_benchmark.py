"""``python -m experiments.benchmarks recurrent``: the contenders compute the same, and the table shows their ratios."""

from math import nan

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments.benchmarks import recurrent, recurrent_contenders
from experiments.benchmarks.harness import Comparison, Result
from experiments.benchmarks.recurrent_task import KINDS, Task


@pytest.mark.parametrize("kind", KINDS)
def test_the_textbook_and_fnnet_compute_the_same(kind):
    task = Task(kind, steps=3, examples=2, inputs=4, features=64)
    x, dy = task.arrays()
    layer = recurrent_contenders.fnnet_layer(task)
    params = jax.tree.map(lambda w: w + 0.1, layer.init(jax.random.key(0), x))
    both = [jax.jit(recurrent_contenders.by_autodiff(f)) for f in (layer.apply, recurrent_contenders.textbook(task))]
    ours, theirs = (jax.tree.leaves(f(params, x, dy)) for f in both)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_contender_returns_its_memory():
    assert recurrent_contenders.fnnet_manual(Task("gru", steps=3, examples=2, inputs=4, features=5))() > 0


def test_the_table_has_ratios_to_fnnet_by_hand():
    task = Task("lstm", steps=50, examples=50, inputs=65, features=128)
    results = {
        "plain": Result(9.0, (3.0, 4.0), 2.5, 100.0),
        "fnnet-manual": Result(9.0, (2.0, 2.0), 1.5, 100.0),
        "pytorch": Result(9.0, (1.0, 1.0), nan, 100.0),
    }
    console = Console(width=100)
    with console.capture() as capture:
        console.print(recurrent.table("lstm", [(task, Comparison(results, {}))]))
    (row,) = (line for line in capture.get().splitlines() if "50, 50, 65, 128" in line)
    assert row.split("128")[1].split() == ["1.75,", "2.5", f"{2000 / task.repeats:.2f},", "1.5", "0.50"]
    assert recurrent.REFERENCE in recurrent.CONTENDERS
