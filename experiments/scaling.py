"""Train one network on more and more devices, and compare the seconds per epoch and the parameters.

A multilayer perceptron 256-512-512-10 is trained on random examples with ``fit(..., mesh=...)``; each batch is split
over 1, 2, 4, ... devices. Seconds and parameters are compared with those of the first row, which has the fewest
devices. Devices that only share the cores of one CPU (``--virtual``) show that the numbers agree and what splitting
costs; they are no faster.

To use several machines, start the experiment on each of them: with ``--processes 0`` under Slurm, Open MPI, Kubernetes
and on Cloud TPU, elsewhere with ``--coordinator ADDRESS:PORT --processes P --process I``, where the address is that of
process 0. Every process generates its own examples, and only a mesh of all devices is measured.
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
    """Number of devices to split the CPU into; 0 uses the devices as they are."""
    model: int = 1
    """Number of devices that share the parameters and the optimizer's state."""
    hidden: int = 512
    """Number of neurons of each of the two hidden layers."""
    examples: int = 8192
    """Number of random examples of all processes together."""
    batch_size: int = 512
    """Examples per update, split over the devices."""
    epochs: int = 4
    """Passes over the examples; the first one is not timed."""
    coordinator: str = ""
    """Address and port of process 0; a cluster's scheduler makes it unnecessary."""
    processes: int = 1
    """Number of processes; 0 asks the cluster's scheduler."""
    process: int = 0
    """Number of this process."""
    heartbeat: int = 30
    """Seconds without a heartbeat after which a process counts as dead and the others stop."""
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
        raise ExperimentError(f"--epochs is {config.epochs}; expected at least 2, because the first one is not timed")
    if config.model < 1:
        raise ExperimentError(f"--model is {config.model}; expected at least 1 device to hold the parameters")


def begin(config: Config) -> None:
    """Set the number of CPU devices and connect the processes; this must precede JAX's first computation."""
    if config.virtual:
        try:
            jax.config.update("jax_num_cpu_devices", config.virtual)
        except RuntimeError as error:
            raise ExperimentError(
                f"--virtual comes too late: JAX has started already, with {jax.device_count()} devices ({error})"
            ) from error
    if config.processes == 0:
        jax.distributed.initialize(heartbeat_timeout_seconds=config.heartbeat)
    elif config.processes > 1:
        if not config.coordinator:
            raise ExperimentError(
                f"--processes is {config.processes}, but --coordinator is missing; pass the ADDRESS:PORT of process 0, "
                "or --processes 0 on a cluster"
            )
        jax.distributed.initialize(
            config.coordinator, config.processes, config.process, heartbeat_timeout_seconds=config.heartbeat
        )


def examples(config: Config) -> tuple[Any, Any]:
    """Return the examples of this process."""
    count = config.examples // jax.process_count()
    generator = np.random.default_rng((config.seed, jax.process_index()))
    x = generator.standard_normal((count, 256), np.float32)
    return x, x[:, :10].argmax(1).astype(np.int32)


def meshes_of(config: Config) -> Any:
    """Yield meshes of 1, 2, 4, ... devices, or one of all devices if they belong to several processes."""
    devices = np.array(jax.devices())
    counts = [2**i for i in range(len(devices).bit_length())] if jax.process_count() == 1 else [len(devices)]
    counts = [count for count in counts if count % config.model == 0]
    if not counts:
        raise ExperimentError(
            f"--model is {config.model}, but the number of devices is {len(devices)}; "
            "expected a power of 2 that divides it"
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
    """Return the largest relative difference of the parameters over the tensors.

    It is NaN for a tensor that is split over other processes.
    """
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
    """Return a sentence about the number and kind of the devices."""
    devices = jax.devices()
    text = f"devices: {len(devices)} of kind {devices[0].device_kind}; processes: {jax.process_count()}."
    if devices[0].platform != "cpu":
        return text
    return f"{text} The devices belong to one CPU and share the {os.cpu_count()} cores of this machine."
