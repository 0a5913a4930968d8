"""One network on more and more devices: seconds for an epoch, by how many share each batch.

Trains a multilayer perceptron 256-512-512-10 on random examples with ``fit(..., mesh=...)``, batches split over 1, 2,
4, ... devices, and compares seconds and parameters with those of the first row, the fewest devices. Devices that only
share the cores of one CPU, as with ``--virtual``, show that the numbers agree and what the splitting costs, no gain.

On several machines start it on each: under Slurm, Open MPI, Kubernetes and on Cloud TPU with ``--processes 0``;
elsewhere with ``--coordinator ADDRESS:PORT --processes P --process I``, the address that of process 0. Every process
makes its own part of the examples; only all devices together are then measured.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import fnnet
from experiments.cli import ExperimentError
from experiments.results import Results, console
from experiments.tables import markdown_table, rich_table

COLUMNS = ("devices", "data × model", "seconds per epoch", "examples per second", "speed-up", "parameters differ by")


@dataclass(frozen=True)
class Config:
    virtual: int = 0
    """Make the CPU appear as so many devices; 0: the devices that there are."""
    model: int = 1
    """Devices that share the parameters and the optimizer's state."""
    hidden: int = 512
    """Neurons of each of the two hidden layers."""
    examples: int = 8192
    """Random examples, of all processes together."""
    batch_size: int = 512
    """Examples per update, shared by the devices."""
    epochs: int = 4
    """Passes over the examples; the first is not counted."""
    coordinator: str = ""
    """Address and port of process 0, where no cluster tells it."""
    processes: int = 1
    """How many processes there are; 0: the cluster knows."""
    process: int = 0
    """The number of this one."""
    heartbeat: int = 30
    """Seconds without a sign of life after which a process counts as dead and the others end."""
    seed: int = 0
    """Seed of everything random."""
    runs: Path = Path("runs")
    """Folder for the results."""


def run(config: Config) -> None:
    check(config)
    begin(config)
    x, y = examples(config)
    meshes = list(meshes_of(config))
    fits = [train(config, mesh, (x, y)) for mesh in meshes]
    if jax.process_index() > 0:
        return
    seconds = [median(fitted.history["seconds"][1:]) for fitted in fits]
    rows = [
        row_of(config, mesh, each, seconds[0], difference(fitted, fits[0]))
        for mesh, each, fitted in zip(meshes, seconds, fits, strict=True)
    ]
    results = Results("scaling", config, config.runs)
    for mesh, each in zip(meshes, seconds, strict=True):
        results.record(**mesh.shape, processes=jax.process_count(), seconds=each)
    console.print(rich_table(COLUMNS, rows))
    console.print(about := about_devices())
    results.summary(f"{markdown_table(COLUMNS, rows)}\n\n{about}")


def check(config: Config) -> None:
    if config.epochs < 2:
        raise ExperimentError(f"--epochs {config.epochs}: the first is not counted; give at least 2")
    if config.model < 1:
        raise ExperimentError(f"--model {config.model}: give at least 1, the devices that share the parameters")


def begin(config: Config) -> None:
    """Before JAX's first computation: how many devices the CPU is, and who the other processes are."""
    if config.virtual:
        try:
            jax.config.update("jax_num_cpu_devices", config.virtual)
        except RuntimeError as error:
            raise ExperimentError(f"JAX has started already, with {jax.device_count()} devices: {error}") from error
    if config.processes == 0:
        jax.distributed.initialize(heartbeat_timeout_seconds=config.heartbeat)
    elif config.processes > 1:
        if not config.coordinator:
            raise ExperimentError(f"{config.processes} processes need --coordinator ADDRESS:PORT, or --processes 0")
        jax.distributed.initialize(
            config.coordinator, config.processes, config.process, heartbeat_timeout_seconds=config.heartbeat
        )


def examples(config: Config) -> tuple[Any, Any]:
    """This process's part of them."""
    part = config.examples // jax.process_count()
    generator = np.random.default_rng((config.seed, jax.process_index()))
    x = generator.standard_normal((part, 256), np.float32)
    return x, x[:, :10].argmax(1).astype(np.int32)


def meshes_of(config: Config) -> Any:
    """Over 1, 2, 4, ... devices; over all of them, if they belong to several processes."""
    devices = np.array(jax.devices())
    counts = [2**i for i in range(len(devices).bit_length())] if jax.process_count() == 1 else [len(devices)]
    counts = [count for count in counts if count % config.model == 0]
    if not counts:
        raise ExperimentError(
            f"--model {config.model} on {len(devices)} devices: give a number that divides theirs, a power of 2"
        )
    for count in counts:
        grid = devices[:count].reshape(-1, config.model)
        yield Mesh(grid, ("data", "model")) if config.model > 1 else Mesh(grid[:, 0], ("data",))


def train(config: Config, mesh: Mesh, data: tuple[Any, Any]) -> fnnet.FitResult:
    layers = [layer for _ in range(2) for layer in (fnnet.Dense(config.hidden), fnnet.tanh)]
    cost = fnnet.Cost(fnnet.sequential(*layers, fnnet.Dense(10)), fnnet.losses.softmax_cross_entropy)
    return fnnet.fit(
        cost,
        fnnet.optimizers.momentum(0.1),
        cost.model.init(jax.random.key(config.seed), jnp.asarray(data[0][:1])),
        data,
        key=jax.random.key(config.seed + 1),
        epochs=config.epochs,
        batch_size=config.batch_size,
        mesh=mesh,
    )


def difference(fitted: fnnet.FitResult, reference: fnnet.FitResult) -> float:
    """The largest relative difference of the parameters, tensor by tensor; NaN where other processes have parts."""
    pairs = zip(jax.tree.leaves(fitted.state.params), jax.tree.leaves(reference.state.params), strict=True)
    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())
        if a.is_fully_addressable or a.is_fully_replicated
        else np.nan
        for a, b in pairs
    )


def row_of(config: Config, mesh: Mesh, seconds: float, alone: float, apart: float) -> list[str]:
    shape = " × ".join(str(mesh.shape.get(axis, 1)) for axis in ("data", "model"))
    speed = f"{config.examples / seconds:,.0f}"
    return [str(mesh.size), shape, f"{seconds:.3f}", speed, f"{alone / seconds:.2f}", f"{apart:.1e}"]


def about_devices() -> str:
    """What the devices are, and what may be expected of them."""
    devices = jax.devices()
    text = f"{len(devices)} devices of kind {devices[0].device_kind}, {jax.process_count()} processes."
    if devices[0].platform != "cpu":
        return text
    return f"{text} They are one CPU's: all of them share the {os.cpu_count()} cores of this machine."
