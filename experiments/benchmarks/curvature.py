"""Largest eigenvalues, trace and density of a Hessian, by fnnet and in PyTorch: the same network, the same digits.

A network 64-16-16-10 of tanh learns scikit-learn's digits, and all contenders look at its Hessian over all training
digits, in turns, in one process. What they estimate is also computed exactly, from the whole matrix. Seconds are the
median over the rounds, without the first call, in which fnnet compiles.

The contender in PyTorch is PyHessian where it is installed (`pip install pyhessian`). Its last release needs
`torch.eig`, which PyTorch has removed, and cannot be installed beside every PyTorch; elsewhere the same algorithms in
plain PyTorch take its place: products by two backward passes, power iteration with deflation up to a relative change of
1e-3, Hutchinson's trace, and stochastic Lanczos quadrature. fnnet finds the eigenvalues by Lanczos' method.

The command exits with status 1 if a trace or a density of fnnet is off by more than 4.5 of its standard errors, or the
eigenvalues by more than 0.1 %.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import fnnet
from experiments import data
from experiments.benchmarks import environment
from experiments.benchmarks.report import write_json
from experiments.cli import ExperimentError
from experiments.curvature import whole_matrix
from experiments.tables import rich_table
from fnnet.initializers import lecun_normal

PACKAGES = ("fnnet", "jax", "torch", "pyhessian")
COLUMNS = ("", "exact", "by", "found", "stated error", "largest deviation", "seconds", "× fnnet")


@dataclass(frozen=True)
class Config:
    rounds: int = 3
    """Number of times that all contenders compute everything, in turns."""
    width: int = 16
    """Neurons of each of the two hidden layers."""
    epochs: int = 20
    """Epochs of training before the Hessian is looked at."""
    largest: int = 3
    """Number of the largest eigenvalues."""
    products: int = 100
    """Products with the Hessian for the trace."""
    steps: int = 50
    """Lanczos steps of the density, from each random vector."""
    vectors: int = 10
    """Random vectors of the density."""
    output: Path | None = None
    """File for all numbers, as JSON."""


def run(config: Config) -> int:
    try:
        from experiments.benchmarks import curvature_contenders as contenders
    except ImportError as error:
        raise ExperimentError(f"curvature: {error}; this benchmark needs PyTorch, pip install torch") from error
    console = Console()
    machine = environment.describe(PACKAGES)
    console.print("\n".join(f"{name:14}{value}" for name, value in machine.items()), highlight=False)
    cost, params, batch = trained(config)
    sizes = contenders.Sizes(config.largest, config.products, config.steps, config.vectors)
    each = {"fnnet": contenders.by_fnnet(cost, params, batch, sizes)}
    try:
        from pyhessian import hessian
    except ImportError:
        console.print("PyHessian is not installed: plain PyTorch computes the same algorithms.", highlight=False)
        each["PyTorch"] = contenders.by_pytorch(params, batch, sizes)
    else:
        each["PyHessian"] = contenders.by_pyhessian(hessian, params, batch, sizes)

    exact = np.linalg.eigvalsh(np.asarray(jax.jit(partial(whole_matrix, cost))(params, batch), np.float64))
    titles = {
        "top": (f"{config.largest} largest, summed", exact[-config.largest :].sum()),
        "trace": ("trace", exact.sum()),
        "moment": ("mean of λ²", np.square(exact).mean()),
    }
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    seconds: dict[tuple[str, str], list[float]] = {}
    for round_number in range(config.rounds + 1):
        for name, numbers in each.items():
            for quantity, function in numbers._asdict().items():
                began = time.perf_counter()
                result = function(round_number)
                took = time.perf_counter() - began
                if round_number:
                    found.setdefault((quantity, name), []).append(result)
                    seconds.setdefault((quantity, name), []).append(took)
    rows = []
    for (quantity, name), results in sorted(found.items(), key=lambda item: list(titles).index(item[0][0])):
        (title, true), took = titles[quantity], median(seconds[quantity, name])
        value, stated = np.mean(results, 0)
        deviation = max(abs(value - true) for value, _ in results)
        ratio = f"{took / median(seconds[quantity, 'fnnet']):.1f}"
        numbers_shown = (f"{number:.4f}" for number in (value, stated, deviation, took))
        rows.append((title, f"{true:.4f}", name, *numbers_shown, ratio))
    right = all(
        abs(value - titles[quantity][1]) <= (1e-3 * titles["top"][1] if quantity == "top" else 4.5 * error)
        for (quantity, name), results in found.items()
        if name == "fnnet"
        for value, error in results
    )
    console.print(rich_table(COLUMNS, rows))
    console.print("fnnet is right within its errors" if right else "fnnet is WRONG", highlight=False)
    if config.output is not None:
        write_json(config.output, {"machine": machine, "columns": COLUMNS, "rows": rows})
    return 0 if right else 1


def trained(config: Config) -> tuple[fnnet.Cost, Any, Any]:
    """Return the cost, the trained parameters and the digits."""
    images, labels = data.digits().train
    batch = (jnp.asarray(images.reshape(len(images), -1)), jnp.asarray(labels))
    dense = partial(fnnet.Dense, w_init=lecun_normal)
    model = fnnet.sequential(dense(config.width), fnnet.tanh, dense(config.width), fnnet.tanh, dense(10))
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
    start, order = jax.random.split(jax.random.key(0))
    optimizer = fnnet.optimizers.momentum(0.5)
    state, _ = fnnet.fit(cost, optimizer, model.init(start, batch[0]), batch, key=order, epochs=config.epochs)
    return cost, state.params, batch
