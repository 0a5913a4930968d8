"""The spectrum of the Hessian at the start, in the middle and at the end of training: bulk, outliers, trace.

A network of tanh learns scikit-learn's digits. Its Hessian over all training digits is looked at three times: the
density of its eigenvalues by stochastic Lanczos quadrature, the largest and smallest by Lanczos, the trace by
Hutchinson and Hutch++ from as many products. The whole matrix is computed too, to compare.

An outlier is one of the largest eigenvalues, above the widest gap (the largest ratio of neighbours) among the first 40.
The command exits with status 1 if the eigenvalues of Lanczos differ from those of the whole matrix by more than
--agreement of the largest, or if a trace is off by more than 4.5 of its standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

import fnnet
from experiments import data
from experiments.results import Results, console
from experiments.tables import markdown_table, rich_table
from experiments.tuning import Numbers
from fnnet import plots
from fnnet.initializers import lecun_normal
from fnnet.inspect.curvature import (
    Estimate,
    SpectralDensity,
    eigenvalues,
    ggn_vp,
    hvp,
    spectral_density,
    trace,
)
from fnnet.types import Array, Params

FIRST = 40  # eigenvalues among which the gap is sought
COLUMNS = ("epoch", "cost", "largest", "smallest", "outliers", "trace", "Hutchinson", "Hutch++", "tr G / tr H")


@dataclass(frozen=True)
class Config:
    hidden: int = 16
    """Neurons of each of the two hidden layers."""
    epochs: int = 40
    """Epochs of training; the middle is the first epoch whose cost is below a tenth of that at the start."""
    learning_rate: float = 0.5
    """Rate of the gradient descent with momentum."""
    products: int = 60
    """Products with the Hessian of each estimate of the trace."""
    steps: int = 60
    """Lanczos steps of the density and of the eigenvalues."""
    samples: int = 6
    """Random vectors of the density."""
    agreement: float = 1e-3
    """Largest difference between the eigenvalues of Lanczos and of the whole matrix, relative to the largest."""
    seed: int = 0
    """Seed of the first parameters, of the order of the digits and of the random vectors."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Look(NamedTuple):
    """What is seen of the Hessian at one time, as estimated, and ``exact``, all eigenvalues in rising order."""

    epoch: int
    cost: float
    density: SpectralDensity
    largest: Numbers
    smallest: Numbers
    hutchinson: Estimate
    hutch: Estimate
    gauss_newton: Estimate
    exact: Numbers

    @property
    def outliers(self) -> int:
        """The number of eigenvalues above the widest gap."""
        top = self.exact[::-1][: FIRST + 1]
        return int(np.argmax(top[:-1] / np.maximum(top[1:], 1e-3 * top[0]))) + 1


def run(config: Config) -> int:
    results = Results("curvature", config, config.runs)
    images, labels = data.digits().train
    batch = (jnp.asarray(images.reshape(len(images), -1)), jnp.asarray(labels))
    dense = partial(fnnet.Dense, w_init=lecun_normal)
    model = fnnet.sequential(
        dense(config.hidden), fnnet.tanh, dense(config.hidden), fnnet.tanh, dense(int(labels.max()) + 1)
    )
    cost = fnnet.Cost(model, fnnet.losses.softmax_cross_entropy)
    start, order, *keys = jax.random.split(jax.random.key(config.seed), 5)
    path = [model.init(start, batch[0])]
    optimizer = fnnet.optimizers.momentum(config.learning_rate)
    fnnet.fit(
        cost, optimizer, path[0], batch, key=order, epochs=config.epochs,
        callbacks=[lambda state, record: path.append(state.params)],
    )  # fmt: skip
    path = jax.device_get(path)  # as the arrays of all epochs are alike, every function is compiled once
    value = jax.jit(cost)
    costs = [float(value(params, batch)) for params in path]
    middle = next(i for i, c in enumerate(costs) if c < costs[0] / 10 or i == config.epochs // 2)
    look = jax.jit(partial(look_at, cost, config))
    whole = jax.jit(partial(whole_matrix, cost))

    looks = {}
    for (name, epoch), key in zip({"start": 0, "middle": middle, "end": config.epochs}.items(), keys, strict=True):
        exact = np.linalg.eigvalsh(np.asarray(whole(path[epoch], batch), np.float64))
        looks[name] = Look(epoch, costs[epoch], **look(path[epoch], batch, key), exact=exact)
    rows = [row_of(look) for look in looks.values()]
    for name, each in looks.items():
        results.record(
            at=name, epoch=each.epoch, cost=each.cost, outliers=each.outliers, largest=each.largest.tolist(),
            trace=float(each.exact.sum()), hutchinson=list(map(float, each.hutchinson)),
            hutch=list(map(float, each.hutch)),
        )  # fmt: skip
    wrong = [f"{name}: {fault}" for name, each in looks.items() for fault in faults(each, config)]
    said = (
        f"{len(looks['end'].exact)} parameters, {len(images)} digits of {int(labels.max()) + 1} classes. "
        f"{'; '.join(wrong) or 'All estimates agree with the whole matrix.'}"
    )
    console.print(rich_table(COLUMNS, rows))
    console.print(said, highlight=False)
    results.figure("curvature", picture(looks))
    results.summary(f"{said}\n\n{markdown_table(COLUMNS, rows)}")
    return 1 if wrong else 0


def look_at(cost: fnnet.Cost, config: Config, params: Params, batch: Any, key: Array) -> dict[str, Any]:
    """Return the fields of a ``Look`` that come from products, all in one program."""
    product = partial(hvp, cost, params, batch)
    keys = jax.random.split(key, 5)
    count = config.products // 3
    top, bottom = eigenvalues(product, params, key=keys[1], k=10, steps=config.steps)
    gauss_newton = partial(ggn_vp, cost, params, batch)
    return {
        "density": spectral_density(product, params, key=keys[0], steps=config.steps, samples=config.samples),
        "largest": top.values,
        "smallest": bottom.values,
        "hutchinson": trace(product, params, key=keys[2], samples=config.products),
        "hutch": trace(product, params, key=keys[3], samples=count, rank=count),
        "gauss_newton": trace(gauss_newton, params, key=keys[4], samples=count, rank=count),
    }


def whole_matrix(cost: fnnet.Cost, params: Params, batch: Any) -> Array:
    """Return the Hessian itself, row by row."""
    vector, back = ravel_pytree(params)
    product = lambda e: ravel_pytree(hvp(cost, params, batch, back(e)))[0]  # noqa: E731
    return jax.lax.map(product, jnp.eye(vector.size, dtype=vector.dtype), batch_size=32)


def faults(look: Look, config: Config) -> list[str]:
    """Return where the estimates differ from the whole matrix."""
    found = []
    error = np.abs(np.asarray(look.largest)[:3] - look.exact[::-1][:3]).max() / look.exact[-1]
    if not error <= config.agreement:
        found.append(f"the largest eigenvalues are off by {error:.1e}")
    for name, estimate in (("Hutchinson", look.hutchinson), ("Hutch++", look.hutch)):
        distance = abs(float(estimate.value) - look.exact.sum()) / float(estimate.error)
        if not distance <= 4.5:
            found.append(f"the trace of {name} is off by {distance:.1f} standard errors")
    return found


def row_of(look: Look) -> tuple[str, ...]:
    def shown(estimate: Estimate) -> str:
        return f"{float(estimate.value):.2f} ± {float(estimate.error):.2f}"

    return (
        str(look.epoch),
        f"{look.cost:.4f}",
        f"{look.largest[0]:.3f}",
        f"{look.smallest[0]:.3f}",
        str(look.outliers),
        f"{look.exact.sum():.2f}",
        shown(look.hutchinson),
        shown(look.hutch),
        f"{float(look.gauss_newton.value) / look.exact.sum():.2f}",
    )


def picture(looks: dict[str, Look]) -> Figure:
    """Return the density on an axis that is linear near 0 and logarithmic far from it, with all eigenvalues below."""
    figure = Figure(figsize=(plots.WIDTH, 1.7 * len(looks) + 0.6), layout="constrained")
    axes = figure.subplots(len(looks), 1, sharex=True)
    unit = 1e-3  # where the axis turns from linear to logarithmic
    low, high = (f(look.exact) for f, look in ((min, min(looks.values(), key=lambda k: k.exact[0])),
                                               (max, max(looks.values(), key=lambda k: k.exact[-1]))))  # fmt: skip
    at = np.linspace(np.arcsinh(1.5 * low / unit), np.arcsinh(1.5 * high / unit), 1000)
    for i, (ax, (name, look)) in enumerate(zip(axes, looks.items(), strict=True)):
        count, outliers = len(look.exact), look.outliers
        scaled = SpectralDensity(jnp.arcsinh(look.density.nodes / unit), look.density.weights)
        density = count * np.asarray(scaled.smoothed(jnp.asarray(at, jnp.float32), 0.15))
        ax.fill_between(at, 0.1, density.clip(0.1), color=plots.COLORS[i], alpha=0.35, linewidth=0)
        ax.plot(at, density.clip(0.1), color=plots.COLORS[i], linewidth=1.2)
        position = np.arcsinh(look.exact / unit)
        for chosen, color, height in ((position[:-outliers], "0.35", 0.2), (position[-outliers:], "black", 0.5)):
            ax.vlines(chosen, 0.1, height, color=color, linewidth=0.6 if color != "black" else 1.4)
        ax.set(yscale="log", ylim=(0.1, 3e4), ylabel="eigenvalues\nper unit")
        ax.set_title(
            f"{name}: epoch {look.epoch}, cost {look.cost:.3g}, {outliers} outlier{'s' if outliers > 1 else ''} "
            f"(long ticks), trace {float(look.hutch.value):.2f} ± {float(look.hutch.error):.2f}",
            loc="left", fontsize=plots.SMALL + 1,
        )  # fmt: skip
        plots.tidy(ax)
    powers = [10.0**p for p in range(-3, 3)]
    ticks = [t for t in (*(-p for p in powers[::-1]), 0.0, *powers) if 1.5 * low <= t <= 1.5 * high]
    axes[-1].set_xticks(np.arcsinh(np.array(ticks) / unit), [f"{t:g}" for t in ticks])
    axes[-1].set_xlabel("eigenvalue of the Hessian")
    return figure
