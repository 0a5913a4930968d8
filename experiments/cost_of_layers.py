"""What does a layer cost by its size: operations counted, and seconds measured?

Five sizes are varied, each alone: the width of a dense layer, the kernel and the image of a convolution, the steps of a
recurrence and of attention. The operations are those of the outline, in closed form; their slope on logarithmic axes is
the power of the law: O(n²) for the width, O(k² n) for the kernel and the number of pixels, O(T) for a recurrence and
O(T²) for attention. The seconds are the median of several runs of the compiled forward pass. The predicted seconds are
the operations at the rate of the largest size.

Measured slopes differ from the laws for two reasons. Small layers are slower than their operations say, because every
call has a cost of its own. And XLA's convolution of one image loses speed at the largest kernels, also in processor
time, which other programs on the machine do not take: 52 operations in a nanosecond with the kernel 11, 45 with 13 and
30 with 15 (Intel Xeon at 2.5 GHz, Cascade Lake, 2 cores, jax 0.10.2). So the slope of the kernel is above 2.

The command exits with status 1 if a slope of the counted operations is not that of the law.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import fnnet
from experiments.results import Results, console
from experiments.tables import TableRows, markdown_table, rich_table
from fnnet import plots
from fnnet.inspect import operations
from fnnet.types import Layer


@dataclass(frozen=True)
class Config:
    runs_each: int = 7
    """Runs of the compiled program that are measured, of which the median counts."""
    rest: float = 0.1
    """Seconds of rest before every run, because a shared machine slows a process down that computes without pause."""
    tolerance: float = 0.05
    """Largest difference between the slope of the counted operations and the power of the law."""
    seed: int = 0
    """Seed of the parameters and of the inputs."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Law(NamedTuple):
    """A layer by one of its sizes; ``of(size)`` returns the layer and the shape of its input."""

    title: str
    size: str
    power: float
    sizes: Sequence[int]
    of: Callable[[int], tuple[Layer, tuple[int, ...]]]


def laws() -> list[Law]:
    return [
        Law(
            "Dense: O(n²)",
            "width n",
            2,
            (32, 64, 128, 256, 512, 1024, 2048, 4096),
            lambda n: (fnnet.Dense(n, use_bias=False), (64, n)),
        ),
        Law(
            "Conv: O(k² n) by its kernel",
            "kernel k",
            2,
            (1, 2, 3, 5, 7, 9, 11, 15),
            lambda k: (fnnet.Conv(128, k, use_bias=False), (1, 31 + k, 31 + k, 8)),
        ),
        Law(
            "Conv: O(k² n) by its image",
            "pixels n",
            1,
            tuple(side**2 for side in (4, 8, 16, 32, 64, 128)),
            lambda n: (fnnet.Conv(128, 3, use_bias=False), (1, math.isqrt(n) + 2, math.isqrt(n) + 2, 8)),
        ),
        Law(
            "GRU: O(T)",
            "steps T",
            1,
            (8, 16, 32, 64, 128, 256, 512, 1024),
            lambda t: (fnnet.Recurrent(fnnet.GRUCell(64)), (16, t, 64)),
        ),
        Law(
            "Attention: O(T²)",
            "steps T",
            2,
            (32, 64, 128, 256, 512, 1024, 2048, 4096),
            lambda t: (fnnet.MultiHeadAttention(4), (1, t, 64)),
        ),
    ]


class Measured(NamedTuple):
    """Sizes, operations and seconds of a layer."""

    law: Law
    sizes: np.ndarray[Any, Any]
    operations: np.ndarray[Any, Any]
    seconds: np.ndarray[Any, Any]

    @property
    def counted_slope(self) -> float:
        return slope(self.sizes[-2:], self.operations[-2:])

    @property
    def measured_slope(self) -> float:
        """The slope of the seconds over the larger half of the sizes."""
        half = len(self.sizes) // 2
        return slope(self.sizes[half:], self.seconds[half:])

    @property
    def rate(self) -> float:
        """Operations in a second at the largest size."""
        return float(self.operations[-1] / self.seconds[-1])


def run(config: Config) -> int:
    results = Results("cost_of_layers", config, config.runs)
    measured = [measure(law, config) for law in laws()]
    for each in measured:
        for size, count, seconds in zip(each.sizes, each.operations, each.seconds, strict=True):
            results.record(layer=each.law.title, size=int(size), operations=int(count), seconds=float(seconds))
    table = table_of(measured)
    console.print(rich_table(*table))
    wrong = [
        f"{each.law.title}: the slope of the operations is {each.counted_slope:.3f}, not {each.law.power:g}"
        for each in measured
        if abs(each.counted_slope - each.law.power) > config.tolerance
    ]
    console.print("\n".join(wrong) or VERDICT, style="bold red" if wrong else "bold green", highlight=False)
    results.figure("cost", picture(measured))
    results.summary("\n\n".join([markdown_table(*table), *(wrong or [VERDICT])]))
    return 1 if wrong else 0


VERDICT = "every slope of the counted operations is that of its law"


def measure(law: Law, config: Config) -> Measured:
    counts, seconds = [], []
    for size in law.sizes:
        layer, shape = law.of(size)
        like = jax.ShapeDtypeStruct(shape, jnp.float32)
        params = jax.eval_shape(layer.init, jax.random.key(0), like)
        counted = operations(layer, like, jax.eval_shape(layer.apply, params, like))
        counts.append(counted.forward if counted else 0)
        seconds.append(median_seconds(layer, params, like, config))
    return Measured(law, np.array(law.sizes), np.array(counts), np.array(seconds))


def median_seconds(layer: Layer, params: Any, x: Any, config: Config) -> float:
    """Return the median time of a forward pass; short ones are repeated until they take 2 ms together."""
    generator, program = np.random.default_rng(config.seed), jax.jit(layer.apply)
    params, x = jax.tree.map(lambda a: jnp.asarray(generator.normal(0, 0.1, a.shape), a.dtype), (params, x))
    jax.block_until_ready(program(params, x))
    begin = time.perf_counter()
    jax.block_until_ready(program(params, x))
    calls = max(1, min(200, round(2e-3 / (time.perf_counter() - begin))))
    times = []
    for _ in range(config.runs_each):
        time.sleep(config.rest)
        begin = time.perf_counter()
        for _ in range(calls):
            y = program(params, x)
        jax.block_until_ready(y)
        times.append((time.perf_counter() - begin) / calls)
    return median(times)


def slope(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """Return the slope of the line through the logarithms, by least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) > 1 else float("nan")


def table_of(measured: Sequence[Measured]) -> TableRows:
    columns = ("layer", "law", "slope counted", "slope measured", "largest", "operations", "seconds", "per second")
    rows = [
        (
            each.law.title.split(":")[0] + ", " + each.law.size,
            f"{each.law.power:g}",
            f"{each.counted_slope:.3f}",
            f"{each.measured_slope:.2f}",
            f"{each.sizes[-1]:,}",
            f"{each.operations[-1]:.2e}",
            f"{each.seconds[-1]:.2e}",
            f"{each.rate:.1e}",
        )
        for each in measured
    ]
    return columns, rows


def picture(measured: Sequence[Measured]) -> Figure:
    """Return the seconds by size on logarithmic axes, measured and predicted from the operations."""
    figure = Figure(figsize=(plots.WIDTH, 5.4), layout="constrained")
    axes = list(figure.subplots(2, 3).flat)
    for ax, each in zip(axes, measured, strict=False):
        predicted = each.operations / each.rate
        law = f"counted, slope {each.counted_slope:.2f}"
        ax.plot(each.sizes, predicted, label=law, **plots.style(0) | {"linestyle": "--"})
        name = f"measured, slope {each.measured_slope:.2f}"
        ax.plot(each.sizes, each.seconds, label=name, markersize=4, **plots.style(1, markers=True) | {"linestyle": "-"})
        ax.set(xscale="log", yscale="log")
        ax.set_title(each.law.title, fontsize=plots.SMALL + 1)
        ax.set_xlabel(each.law.size, fontsize=plots.SMALL)
        ax.tick_params(labelsize=plots.SMALL - 1, which="both")
        ax.minorticks_off()
        ticks = each.sizes[:: 2 if len(each.sizes) > 6 else 1]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=0 if ticks[-1] < 10_000 else 20)
        plots.tidy(ax)
        ax.legend(fontsize=plots.SMALL - 1, frameon=False, loc="lower right", borderaxespad=0.1)
    axes[0].set_ylabel("seconds", fontsize=plots.SMALL)
    axes[3].set_ylabel("seconds", fontsize=plots.SMALL)
    for ax in axes[len(measured) :]:
        ax.remove()
    return figure
