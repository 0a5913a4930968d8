"""Seconds of max pooling, forward and backward: fnnet, by hand and by autodiff, and its peers.

Float32 images, examples first, channels last: ``halved`` is 128 of 24×24 with 20 channels in windows of 2×2, as after
the first convolution of a network for MNIST; ``wide`` 64 of 32×32 with 64 channels, halved alike; ``overlapping`` the
same in windows of 3×3 with stride 2, as ResNet has them. One round is many repetitions. ``ratio`` is the median over
the rounds of a contender's seconds divided by those of fnnet by hand in the same round: above 1, fnnet is faster. The
last column, the mean of |dx|, shows that all computed the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.benchmarks import report
from experiments.benchmarks.harness import compare
from experiments.benchmarks.pool_contenders import CONTENDERS
from experiments.benchmarks.pool_task import Task
from experiments.benchmarks.start import start

REFERENCE = "fnnet-manual"
PACKAGES = ("jax", "jaxlib", "numpy", "flax", "torch")
SETUPS: dict[str, dict[str, Any]] = {
    "halved": {"shape": (128, 24, 24, 20), "window": 2, "stride": 2},
    "wide": {"shape": (64, 32, 32, 64), "window": 2, "stride": 2},
    "overlapping": {"shape": (64, 32, 32, 64), "window": 3, "stride": 2},
}


@dataclass(frozen=True)
class Config:
    setup: Literal["halved", "wide", "overlapping", "all"] = "all"
    """Which images and windows."""
    rounds: int = 9
    """Rounds timed of each contender, after the first one."""
    repeats: int = 50
    """Forward and backward passes in a round."""
    only: tuple[str, ...] = ()
    """Contenders that take part; all, if none is named."""
    seed: int = 0
    """Seed of the images."""
    output: Path = Path("runs/benchmarks/pool.json")
    """File for the machine, the versions and all numbers; an existing file is replaced."""


def run(config: Config) -> None:
    contenders, machine, console = start(CONTENDERS, config.only, PACKAGES)

    comparisons = {}
    for name in SETUPS if config.setup == "all" else (config.setup,):
        task = Task(repeats=config.repeats, seed=config.seed, **SETUPS[name])
        with console.status("") as status:
            comparison = compare(contenders, task, config.rounds, status.update)
        images = "×".join(map(str, task.shape))
        title = f"\n{name}: {images} by {task.window}×{task.window}, stride {task.stride}, {task.repeats} times"
        console.print(report.table(title, comparison, REFERENCE, "mean |dx|"))
        comparisons[name] = {"task": asdict(task)} | report.as_json(comparison, REFERENCE)
    report.write_json(config.output, {"environment": machine, "config": asdict(config), "setups": comparisons})
    console.print(f"numbers in {config.output}", highlight=False)
