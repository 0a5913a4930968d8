"""Measure max pooling, forward and backward: fnnet with its hand-written rule and with autodiff, and other libraries.

The images are float32 with channels last. ``halved`` has 128 images of 24×24 with 20 channels and windows of 2×2, as
after the first convolution of a network for MNIST. ``wide`` has 64 images of 32×32 with 64 channels and the same
windows. ``overlapping`` has the images of ``wide`` and windows of 3×3 with stride 2, as in ResNet. One round repeats
the passes many times. ``ratio`` is the median over the rounds of a contender's time divided by the time of fnnet with
its hand-written rule in the same round; if it is greater than 1, fnnet is faster. The last column, the mean of |dx|,
shows that all contenders compute the same.
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
    """Images and windows to measure."""
    rounds: int = 9
    """Number of rounds that are timed for each contender, after the first one."""
    repeats: int = 50
    """Number of forward and backward passes in a round."""
    only: tuple[str, ...] = ()
    """Contenders to measure; all of them by default."""
    seed: int = 0
    """Seed of the images."""
    output: Path = Path("runs/benchmarks/pool.json")
    """File for the description of the machine, the versions and all numbers; an existing file is replaced."""


def run(config: Config) -> None:
    contenders, machine, console = start(CONTENDERS, config.only, PACKAGES)

    comparisons = {}
    for name in SETUPS if config.setup == "all" else (config.setup,):
        task = Task(repeats=config.repeats, seed=config.seed, **SETUPS[name])
        with console.status("") as status:
            comparison = compare(contenders, task, config.rounds, status.update)
        images = "×".join(map(str, task.shape))
        windows = f"windows {task.window}×{task.window} with stride {task.stride}"
        title = f"\n{name}: images {images}, {windows}, {task.repeats} passes"
        console.print(report.table(title, comparison, REFERENCE, "mean |dx|"))
        comparisons[name] = {"task": asdict(task)} | report.as_json(comparison, REFERENCE)
    report.write_json(config.output, {"environment": machine, "config": asdict(config), "setups": comparisons})
    console.print(f"The numbers are in {config.output}.", highlight=False)
