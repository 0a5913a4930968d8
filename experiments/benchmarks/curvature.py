"""Top eigenvalue, trace and density of a Hessian, by fnnet and by PyHessian: the same network, the same digits.

A network 64-16-16-10 of tanh learns scikit-learn's digits, and both libraries look at its Hessian over all training
digits, in turns, in one process. What they estimate is also computed exactly, from the whole matrix. Seconds are the
median over the rounds, without compiling, which fnnet does once.

PyHessian is `pip install pyhessian`. Its last release calls `torch.eig`, which PyTorch has removed; it is given
`torch.linalg.eigh` in its place. The command exits with status 1 if a number of fnnet is off by more than 4.5 of its
standard errors, or the top eigenvalue by more than 0.1 %.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from rich.console import Console

import fnnet
from experiments import data
from experiments.benchmarks import environment
from experiments.benchmarks.report import write_json
from experiments.cli import ExperimentError
from experiments.tables import rich_table
from fnnet.initializers import lecun_normal
from fnnet.inspect.curvature import eigenvalues, hvp, spectral_density, trace

WIDTH = 16
PACKAGES = ("fnnet", "jax", "torch", "pyhessian")


@dataclass(frozen=True)
class Config:
    rounds: int = 3
    """Number of times that both libraries compute everything, in turns."""
    epochs: int = 20
    """Epochs of training before the Hessian is looked at."""
    products: int = 100
    """Products with the Hessian for the trace."""
    steps: int = 50
    """Lanczos steps of the density, from one random vector."""
    output: Path | None = None
    """File for all numbers, as JSON."""


class Numbers(NamedTuple):
    """What a library finds, each by a function that is called in every round with the number of the round."""

    top: Callable[[int], float]
    trace: Callable[[int], tuple[float, float]]  # and the standard error
    density: Callable[[int], tuple[Any, Any]]  # the nodes and the weights


def run(config: Config) -> int:
    console = Console()
    machine = environment.describe(PACKAGES)
    console.print("\n".join(f"{name:14}{value}" for name, value in machine.items()), highlight=False)
    cost, params, batch = trained(config.epochs)
    contenders = {"fnnet": ours(cost, params, batch, config), "PyHessian": theirs(params, batch, config)}
    exact = exact_eigenvalues(cost, params, batch)
    for each in contenders.values():
        each.top(0), each.trace(0), each.density(0)
    seconds: dict[tuple[str, str], list[float]] = {}
    found: dict[tuple[str, str], list[Any]] = {}
    for round_number in range(1, config.rounds + 1):
        for name, each in contenders.items():
            for quantity, function in each._asdict().items():
                began = time.perf_counter()
                found.setdefault((name, quantity), []).append(function(round_number))
                seconds.setdefault((name, quantity), []).append(time.perf_counter() - began)
    truth = {"top": exact[-1], "trace": exact.sum(), "density": np.square(exact).mean()}
    shown = {"top": "largest eigenvalue", "trace": "trace", "density": "second moment of the density"}
    rows, right = [], True
    for quantity, true in truth.items():
        for name in contenders:
            values = [number_of(quantity, each) for each in found[name, quantity]]
            error = np.std(values, ddof=1)
            took, ours_took = (median(seconds[who, quantity]) for who in (name, "fnnet"))
            rows.append(
                (
                    shown[quantity], f"{true:.4f}", name, f"{np.mean(values):.4f} ± {error:.4f}", f"{took:.4f}",
                    f"{took / ours_took:.1f}",
                )
            )  # fmt: skip
    top = np.array(found["fnnet", "top"])
    right = bool(np.all(np.abs(top / exact[-1] - 1) < 1e-3)) and all(
        abs(value - truth["trace"]) < 4.5 * error for value, error in found["fnnet", "trace"]
    )
    console.print(rich_table(("", "exact", "by", "found ± of one", "seconds", "× fnnet"), rows))
    console.print("fnnet is right within its errors" if right else "fnnet is WRONG", highlight=False)
    if config.output is not None:
        write_json(config.output, {"machine": machine, "rows": rows})
    return 0 if right else 1


def number_of(quantity: str, found: Any) -> float:
    if quantity == "density":
        nodes, weights = (np.asarray(each, float) for each in found)
        return float((weights * nodes**2).sum() / weights.sum())
    return float(found[0] if quantity == "trace" else found)


def trained(epochs: int) -> tuple[fnnet.Cost, Any, Any]:
    """Return the cost, the trained parameters and the digits."""
    images, labels = data.digits().train
    batch = (jnp.asarray(images.reshape(len(images), -1)), jnp.asarray(labels))
    dense = partial(fnnet.Dense, w_init=lecun_normal)
    model = fnnet.sequential(dense(WIDTH), fnnet.tanh, dense(WIDTH), fnnet.tanh, dense(10))
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
    start, order = jax.random.split(jax.random.key(0))
    optimizer = fnnet.optimizers.momentum(0.5)
    state, _ = fnnet.fit(cost, optimizer, model.init(start, batch[0]), batch, key=order, epochs=epochs)
    return cost, state.params, batch


def exact_eigenvalues(cost: fnnet.Cost, params: Any, batch: Any) -> np.ndarray[Any, Any]:
    """Return all eigenvalues of the Hessian, from the whole matrix."""
    vector, back = ravel_pytree(params)
    product = lambda e: ravel_pytree(hvp(cost, params, batch, back(e)))[0]  # noqa: E731
    matrix = jax.jit(lambda: jax.lax.map(product, jnp.eye(vector.size, dtype=vector.dtype), batch_size=32))()
    return np.linalg.eigvalsh(np.asarray(matrix, np.float64))


def ours(cost: fnnet.Cost, params: Any, batch: Any, config: Config) -> Numbers:
    """Return fnnet's functions, each a compiled program."""

    def product(params: Any, batch: Any) -> Any:
        return partial(hvp, cost, params, batch)

    top = jax.jit(lambda p, b, key: eigenvalues(product(p, b), p, key=key, steps=20).largest.values[0])
    tr = jax.jit(lambda p, b, key: trace(product(p, b), p, key=key, samples=config.products))
    density = jax.jit(lambda p, b, key: spectral_density(product(p, b), p, key=key, steps=config.steps, samples=1))
    return Numbers(
        lambda i: float(top(params, batch, jax.random.key(i))),
        lambda i: tuple(map(float, tr(params, batch, jax.random.key(i)))),  # type: ignore[arg-type, return-value]
        lambda i: tuple(np.asarray(a[0]) for a in density(params, batch, jax.random.key(i))),  # type: ignore[arg-type, return-value]
    )


def theirs(params: Any, batch: Any, config: Config) -> Numbers:
    """Return PyHessian's functions, on the same network in PyTorch."""
    try:
        import torch
        from pyhessian import hessian
    except ImportError as error:
        raise ExperimentError(f"PyHessian is not installed ({error}); pip install torch pyhessian") from error

    def eig(matrix: Any, eigenvectors: bool) -> tuple[Any, Any]:
        values, vectors = torch.linalg.eigh(matrix)
        return values[:, None], vectors

    vars(torch)["eig"] = eig
    dense = [layer for layer in params if layer]
    linear = [torch.nn.Linear(*layer["w"].shape) for layer in dense]
    for to, layer in zip(linear, dense, strict=True):
        to.weight.data, to.bias.data = (
            torch.tensor(np.asarray(layer["w"]).T.copy()),
            torch.tensor(np.asarray(layer["b"])),
        )
    model = torch.nn.Sequential(linear[0], torch.nn.Tanh(), linear[1], torch.nn.Tanh(), linear[2])
    x, y = torch.tensor(np.asarray(batch[0])), torch.tensor(np.asarray(batch[1])).long()

    def peer(i: int) -> Any:
        torch.manual_seed(i)
        model.zero_grad()
        return hessian(model, torch.nn.CrossEntropyLoss(), data=(x, y), cuda=False)

    def of_trace(i: int) -> tuple[float, float]:
        samples = peer(i).trace(maxIter=config.products, tol=0.0)
        return float(np.mean(samples)), float(np.std(samples, ddof=1) / len(samples) ** 0.5)

    def of_density(i: int) -> tuple[Any, Any]:
        nodes, weights = peer(i).density(iter=config.steps, n_v=1)
        return np.asarray(nodes[0]), np.asarray(weights[0])

    return Numbers(lambda i: float(peer(i).eigenvalues()[0][0]), of_trace, of_density)
