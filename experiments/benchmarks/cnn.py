"""Seconds per epoch of a convolutional network on images of MNIST's shape: fnnet and its peers.

20 filters 5×5, pool, 40 filters 5×5, pool, dense 100, softmax; ReLU, Adam; random images with learnable labels, nothing
to download. ``flax-scan`` is flax's step scanned over the epoch, one program as fnnet's is, with XLA's convolution;
``flax-steps`` calls it from Python. PyTorch runs in both of its memory formats. ``ratio`` is the median over the
rounds of a contender's seconds divided by those of fnnet by hand in the same round: above 1, fnnet is faster.

Run it on an idle machine: see ``mlp``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.benchmarks import report
from experiments.benchmarks.cnn_contenders import CONTENDERS
from experiments.benchmarks.cnn_task import Task
from experiments.benchmarks.harness import compare
from experiments.benchmarks.start import start

REFERENCE = "fnnet-manual"
PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax", "equinox", "torch")


@dataclass(frozen=True)
class Config:
    batch_sizes: tuple[int, ...] = (64, 10)
    """Examples per update, one comparison for each."""
    rounds: int = 5
    """Epochs timed of each contender, after the first one."""
    updates: int = 100
    """Updates per epoch."""
    only: tuple[str, ...] = ()
    """Contenders that take part; all, if none is named."""
    seed: int = 0
    """Seed of the data, of the first weights and of the order of the examples."""
    output: Path = Path("runs/benchmarks/cnn.json")
    """File for the machine, the versions and all numbers; an existing file is replaced."""


def run(config: Config) -> None:
    contenders, machine, console = start(CONTENDERS, config.only, PACKAGES)

    comparisons = {}
    for batch_size in config.batch_sizes:
        task = Task(batch_size, config.updates * batch_size, config.seed)
        with console.status("") as status:
            comparison = compare(contenders, task, config.rounds, status.update)
        title = f"\n{config.updates} updates with batches of {batch_size}"
        console.print(report.table(title, comparison, REFERENCE, "loss"))
        comparisons[str(batch_size)] = {"task": asdict(task)} | report.as_json(comparison, REFERENCE)
    report.write_json(config.output, {"environment": machine, "config": asdict(config), "setups": comparisons})
    console.print(f"The numbers are in {config.output}.", highlight=False)
