"""How far do gradients reach through time? The norm of ∂h_T/∂h_t for five spectral radii, and its bound.

The recurrent matrices have the spectral radii 0.5, 0.9, 1, 1.1 and 1.5; the inputs are normally distributed. The
recurrences are: linear with a normal matrix (a scaled orthogonal one, for which the norm is exactly the radius to the
power T − t), linear with a matrix that is not normal, tanh, GRU and LSTM, whose gates have a scaled orthogonal matrix
each. The norm is that of the whole carry, which is (h, c) for an LSTM; it is exact at every step, from the product of
the Jacobians. The bound is the product of their norms. All numbers are float64. The command exits with status 1 if a
norm exceeds its bound, or if the norm of the linear recurrence with a normal matrix does not grow by exactly the radius
in each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from experiments import gradient_flow_pictures
from experiments.cli import ExperimentError
from experiments.results import Results, console
from experiments.tables import TableRows, markdown_table, rich_table
from fnnet import GRUCell, LSTMCell, Recurrent, RNNCell, bind, initializers, inspect, plots
from fnnet.layers.cells import Cell

ROUNDING = 1e-9  # the relative rounding error of products of a few dozen matrices in float64
TINY, HUGE = 1e-290, 1e300  # beyond these numbers, the entries of products underflow or overflow


@dataclass(frozen=True)
class Config:
    features: int = 64
    """Number of entries of the hidden state."""
    steps: int = 50
    """Number of steps from the first carry to the last, T."""
    radii: tuple[float, ...] = (0.5, 0.9, 1.0, 1.1, 1.5)
    """Spectral radii of the recurrent matrices."""
    inputs: float = 0.1
    """Standard deviation of the inputs."""
    seed: int = 0
    """Seed of the parameters and the inputs."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Flow(NamedTuple):
    """The norms ``‖∂h_T/∂h_t‖`` of a recurrence and their bounds, by steps back ``T − t = 0 ... T``."""

    norms: Any
    bounds: Any

    @property
    def slope(self) -> float:
        """The growth of the logarithm of the norm per step back, over the second half of the norms above ``TINY``."""
        logs = np.log(self.norms[self.norms >= TINY])
        middle = (len(logs) - 1) // 2
        return float((logs[-1] - logs[middle]) / (len(logs) - 1 - middle))


Flows = Mapping[str, Mapping[float, Flow]]  # by recurrence, by radius


def cells(features: int, radius: float) -> dict[str, Cell]:
    normal: Any = bind(initializers.orthogonal, gain=radius)
    not_normal: Any = bind(initializers.with_spectral_radius, radius=radius)
    return {
        "linear, normal": RNNCell(features, fnnet.identity, w_h_init=normal),
        "linear, not normal": RNNCell(features, fnnet.identity, w_h_init=not_normal),
        "tanh": RNNCell(features, w_h_init=normal),
        "GRU": GRUCell(features, w_h_init=normal),
        "LSTM": LSTMCell(features, w_h_init=normal),
        "LSTM, forget bias 4": LSTMCell(features, forget_bias=4.0, w_h_init=normal),
    }


EXACT = "linear, normal"


def run(config: Config) -> int:
    if min(config.radii, default=0) <= 0 or config.steps < 4:
        raise ExperimentError(
            f"radii is {config.radii} and steps is {config.steps}; expected radii above 0 and at least 4 steps"
        )
    if len(config.radii) > len(plots.COLORS):
        raise ExperimentError(f"radii is {config.radii}; expected at most {len(plots.COLORS)} radii, a colour each")
    if config.steps * np.log(max(config.radii)) > np.log(HUGE):
        raise ExperimentError(
            f"steps is {config.steps}, over which gradients of radius {max(config.radii):g} overflow float64; expected "
            f"fewer steps or smaller radii"
        )
    results = Results("gradient_flow_in_time", config, config.runs)
    with jax.enable_x64(True):
        flows = measure(config)
    for name, by_radius in flows.items():
        for radius, flow in by_radius.items():
            results.record(recurrence=name, radius=radius, norms=flow.norms.tolist(), bounds=flow.bounds.tolist())
    console.print(rich_table(*table_of(flows, config)))
    results.figure("flow", gradient_flow_pictures.flows(flows))
    wrong = faults(flows)
    console.print("\n".join(wrong) if wrong else VERDICT, style="bold red" if wrong else "bold green", highlight=False)
    results.summary("\n\n".join([markdown_table(*table_of(flows, config)), *(wrong or [VERDICT])]))
    return 1 if wrong else 0


VERDICT = "every norm is below its bound; linear with a normal matrix, it grows by exactly the radius per step"


def measure(config: Config) -> Flows:
    """Return the flow of every recurrence at every radius, from one example, with one program for each recurrence."""
    input_key, init_key = jax.random.split(jax.random.key(config.seed))
    x = config.inputs * jax.random.normal(input_key, (1, config.steps, config.features), jnp.float64)
    flows: dict[str, dict[float, Flow]] = {}
    for radius in config.radii:
        for name, cell in cells(config.features, radius).items():
            layer = Recurrent(cell)
            params = layer.init(jax.random.clone(init_key), x)  # the same random numbers for all radii
            measured = flow_of(Recurrent(without_initializers(cell)), params, x)
            flows.setdefault(name, {})[radius] = Flow(*(np.asarray(each[::-1, 0]) for each in measured))
    return flows


def without_initializers(cell: Any) -> Cell:
    """Return the cell with the default initializers, which do not change what it computes: one trace for all radii."""
    options = {"activation": cell.activation} if isinstance(cell, RNNCell) else {}
    return type(cell)(cell.features, **options)


flow_of = jax.jit(inspect.gradient_flow, static_argnums=0)


def faults(flows: Flows) -> list[str]:
    """Return a sentence for every norm that is not what it must be."""
    wrong = [
        f"{name}, radius {radius:g}: {excess}"
        for name, by_radius in flows.items()
        for radius, flow in by_radius.items()
        if (excess := excess_of(flow))
    ]
    for radius, flow in flows[EXACT].items():
        exact = radius ** np.arange(len(flow.norms))
        if not np.allclose(flow.norms, exact, rtol=ROUNDING, atol=TINY):
            wrong.append(f"{EXACT}, radius {radius:g}: a slope of {flow.slope:.6g}, not log({radius:g})")
    return wrong


def excess_of(flow: Flow) -> str:
    """Return by how much a norm exceeds its bound, or an empty string."""
    above = ~(flow.norms <= flow.bounds * (1 + ROUNDING) + TINY)
    return f"the norm is {(flow.norms[above] / flow.bounds[above]).max():.3g} times its bound" if above.any() else ""


def table_of(flows: Flows, config: Config) -> TableRows:
    rows = [
        (
            name,
            f"{radius:g}",
            f"{flow.norms[1]:.3g}",
            f"{flow.norms[-1]:.2e}",
            f"{flow.bounds[-1]:.2e}",
            f"{flow.slope:.4f}",
            f"{np.log(radius):.4f}",
        )
        for name, by_radius in flows.items()
        for radius, flow in by_radius.items()
    ]
    return ("recurrence", "ρ", "1 back", f"{config.steps} back", "bound", "slope", "log ρ"), rows
