"""What ``Watch`` has measured in a run, on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.checks import is_float, is_integer
from fnnet.cost import Cost
from fnnet.diagnosis.programs import compiled
from fnnet.diagnosis.report import NotLookedAt
from fnnet.inspect.baselines import loss_bounds
from fnnet.inspect.signals import leaf_layers
from fnnet.layers import Activation, LowPrecision
from fnnet.layers.nesting import nested
from fnnet.paths import named_leaves
from fnnet.types import Batch, Params

Numbers = np.ndarray[Any, Any]
RESOLVED = 64  # roundings of the cost, below which a change of it is not seen
SPIKE = 10  # median absolute deviations
KEPT = ("start", "best", "last")  # the looks whose losses of each example are kept


class Measured(dict[str, list[Any]]):
    """Measurements by name; one that was not made raises ``NotLookedAt``."""

    def __missing__(self, name: str) -> list[Any]:
        raise NotLookedAt(f"{name.replace('_', ' ')} was not measured; pass callbacks=[Watch()] to fit, and watch=")


@dataclass
class Watched:
    """The measurements of one run, as lists, which a checkpoint can hold.

    ``steps`` has one entry for each probed step, ``looks`` one for each look. ``losses`` are those of each example at
    the first look, at the look with the least mean loss on the probe set, and at the last one. ``costs`` are those of
    all steps since the last look. ``facts`` are what does not change:

    - ``parameters`` and ``layers``: the paths, in the order of the arrays ``(P,)`` and ``(L,)``; ``activations``: the
      layers that are an ``Activation``;
    - ``probe_bounds`` and ``training_bounds``: ``[H₀, L*]`` of the targets of both sets;
    - ``validates``: whether the probe set is another one than the training examples;
    - ``resolution``: the smallest relative change of a cost that is more than its rounding;
    - ``labels``: whether the targets are labels of the classes of the output;
    - ``batch_size`` and ``steps_per_epoch``, None if not known.
    """

    facts: dict[str, Any]
    steps: Measured = field(default_factory=Measured)
    looks: Measured = field(default_factory=Measured)
    losses: Measured = field(default_factory=Measured)
    costs: list[float] = field(default_factory=list)

    @classmethod
    def begun(
        cls, cost: Cost, params: Params, training: Batch, probe: Batch | None, batch_size: int, steps: int | None
    ) -> Watched:
        """Return the measurements before the first look, of a run with so many steps per epoch."""
        layers = leaf_layers(cost.model)
        output = jax.eval_shape(lambda p: cost.model.apply(p, training[0]), params)
        labels = is_integer(training[1]) and output.ndim == training[1].ndim + 1 and output.shape[-1] > 1
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(params) if is_float(leaf)]
        dtypes += [layer.dtype for _, layer in nested(cost.model) if isinstance(layer, LowPrecision)]
        return cls(
            {
                "parameters": [name for name, _ in named_leaves(params)],
                "layers": list(layers),
                "activations": [path for path, layer in layers.items() if isinstance(layer, Activation)],
                "probe_bounds": bounds_of(cost, params, training if probe is None else probe),
                "training_bounds": bounds_of(cost, params, training),
                "validates": probe is not None,
                "resolution": RESOLVED * max((float(jnp.finfo(dtype).eps) for dtype in dtypes), default=0.0),
                "labels": labels,
                "batch_size": batch_size,
                "steps_per_epoch": steps,
            }
        )

    def add_steps(self, probed: Mapping[str, Numbers]) -> None:
        """Add the numbers of ``K`` steps, of which those that were not probed have the step -1."""
        due = np.asarray(probed["step"]) >= 0
        for name, values in probed.items():
            wide = np.asarray(values, np.int64 if name == "step" else np.float64)
            self.steps.setdefault(name, []).extend(wide[due].tolist())
        self.costs += np.asarray(probed["cost"], np.float64).tolist()

    def add_look(self, step: int, numbers: Mapping[str, Numbers]) -> None:
        """Add the numbers of a look, and the costs of the steps since the last one."""
        costs = np.asarray(self.costs)
        entry: dict[str, Any] = {"step": step, "spikes": spikes(costs) if self.looks else 0.0}
        for name, values in numbers.items():
            if not name.endswith("losses"):
                entry[name] = np.asarray(values, np.float64).tolist()
                continue
            known = values[np.isfinite(values)] if np.isfinite(values).any() else values
            entry[name.replace("losses", "loss")] = float(known.mean())
            entry[name.replace("losses", "error")] = (
                float(known.std(ddof=1) / len(known) ** 0.5) if len(known) > 1 else 0.0
            )
        best = not self.looks or not entry["loss"] >= min(self.looks["loss"])
        for when, is_due in zip(KEPT, (not self.looks, best, True), strict=True):
            if is_due:
                self.losses |= {
                    f"{when}_{name}": np.asarray(v, np.float64).tolist()
                    for name, v in numbers.items()
                    if name.endswith("losses")
                }
                self.losses[f"{when}_step"] = [step]
        for name, value in entry.items():
            self.looks.setdefault(name, []).append(value)
        self.costs = []

    @property
    def numbers(self) -> dict[str, Numbers]:
        """All of it as arrays: ``cost (S,)``, ``gradient_norm (S, P)``, ``look_loss (E,)``, ``best_losses (n,)``."""
        looks = {f"look_{name}": values for name, values in self.looks.items()}
        arrays = {name: np.asarray(values) for name, values in {**self.steps, **looks, **self.losses}.items()}
        return arrays | ({"rho": self.rho} if self.steps else {})

    @property
    def rho(self) -> Numbers:
        """The ratio of the actual and the predicted change of the cost in each probed step, ``(S,)``.

        NaN where the step does not go downhill, and where the predicted change is too small to be seen in the cost.
        """
        change, predicted, cost = (np.asarray(self.steps[name]) for name in ("change", "predicted", "cost"))
        seen = (predicted < 0) & (-predicted >= self.facts["resolution"] * np.abs(cost))
        return np.where(seen, change / np.where(seen, predicted, 1), np.nan)

    def excess(self, which: str) -> tuple[Numbers, Numbers]:
        """Return ``λ`` at every look, and its standard error: of "training", or of the "probe" set."""
        prefix = "training_" if which == "training" else ""
        (best_constant, scale) = scale_of(self.facts[f"{which}_bounds"])
        loss, error = (np.asarray(self.looks[f"{prefix}{name}"]) for name in ("loss", "error"))
        return 1 + (loss - best_constant) / scale, error / scale

    def by_layer(self, name: str, *, looks: bool = False) -> tuple[list[str], Numbers]:
        """Return the layers with parameters, and a norm of all parameters of each, ``(S or E, layers)``."""
        values = np.asarray((self.looks if looks else self.steps)[name])
        owners = [layer_of(path) for path in self.facts["parameters"]]
        layers = list(dict.fromkeys(owners))
        columns = [np.sqrt(np.square(values[:, [o == layer for o in owners]]).sum(1)) for layer in layers]
        return layers, np.stack(columns, 1) if columns else np.zeros((len(values), 0))

    def reach(self, *, looks: bool = False) -> tuple[list[str], Numbers]:
        """Return ``(‖g_l‖ / ‖w_l‖) / max_k (‖g_k‖ / ‖w_k‖)`` of the layers; NaN where ``w_l = 0``."""
        layers, g = self.by_layer("gradient_norm", looks=looks)
        _, w = self.by_layer("parameter_norm", looks=looks)
        ratios = np.where(w > 0, g / np.where(w > 0, w, 1), np.nan)
        largest = np.nanmax(np.where(np.isfinite(ratios), ratios, 0), 1, keepdims=True, initial=0)
        return layers, np.where(largest > 0, ratios / np.where(largest > 0, largest, 1), np.nan)

    def summary(self) -> dict[str, float]:
        """Return the numbers of the last epoch for its record."""
        first = self.looks["step"][-2]
        late = np.asarray(self.steps.get("step", ())) >= first
        rho = self.rho[late] if self.steps else np.zeros(0)
        predicted = np.asarray(self.steps.get("predicted", ()))[late]
        reach = self.reach(looks=True)[1][-1] if "gradient_norm" in self.looks else np.zeros(0)
        active = [path in self.facts["activations"] for path in self.facts["layers"]]
        share = {name: np.asarray(self.looks[name][-1])[active] for name in ("dead", "saturated")}
        return {
            "rho": reduced(np.median, rho),
            "uphill": reduced(np.mean, (predicted >= 0).astype(float)),
            "lambda": float(self.excess("probe")[0][-1]),
            "training_lambda": float(self.excess("training")[0][-1]),
            "reach": reduced(np.min, reach),
            "dead": reduced(np.max, share["dead"]),
            "saturated": reduced(np.max, share["saturated"]),
        }

    def as_lists(self) -> dict[str, Any]:
        """Return it as numbers that JSON can represent."""
        lists = ("steps", "looks", "losses")
        copies = {each: {name: list(values) for name, values in getattr(self, each).items()} for each in lists}
        return {"facts": dict(self.facts), "costs": list(self.costs), **copies}

    @classmethod
    def of_lists(cls, lists: Mapping[str, Any]) -> Watched:
        named = {each: Measured(lists[each]) for each in ("steps", "looks", "losses")}
        return cls(lists["facts"], **named, costs=lists["costs"])

    @classmethod
    def of_history(cls, history: Mapping[str, Numbers]) -> Watched | None:
        """Return what the summaries in a history tell, one probed step for each epoch; None if nobody watched.

        Shares of units are the most over all layers, whose path is then ``"*"``.
        """
        if "rho" not in history:
            return None
        epochs = len(history["rho"])
        step = np.asarray(history.get("step", np.arange(1, epochs + 1)), int).tolist()
        unknown = [float("nan")] * epochs
        layers = {name: [[share] for share in np.asarray(history[name]).tolist()] for name in ("dead", "saturated")}
        return cls(
            {
                "parameters": [],
                "layers": ["*"],
                "activations": ["*"],
                "probe_bounds": [1.0, 0.0],
                "training_bounds": [1.0, 0.0],
                "validates": "validation_cost" in history,
                "resolution": 0.0,
                "labels": False,
            },
            Measured(
                step=step,
                change=(-np.asarray(history["rho"])).tolist(),
                predicted=[-1.0] * epochs,
                cost=np.asarray(history["cost"]).tolist(),
            ),
            Measured(
                step=step,
                loss=np.asarray(history["lambda"]).tolist(),
                training_loss=np.asarray(history["training_lambda"]).tolist(),
                error=unknown,
                training_error=unknown,
                **layers,
            ),
        )


def bounds_of(cost: Cost, params: Params, data: Batch) -> list[float]:
    """Return ``[H₀, L*]``, the loss of the best constant prediction and the least loss that there is."""
    shape = jax.eval_shape(lambda p: cost.model.apply(p, data[0]), params).shape
    return [float(bound) for bound in compiled(loss_bounds, cost, shape)(data)]


def scale_of(bounds: list[float]) -> tuple[float, float]:
    """Return ``H₀`` and ``H₀ − L*``, in which losses have no unit.

    It is 1 where there is no least loss, and NaN where a constant is as good as any prediction.
    """
    best_constant, least = bounds
    scale = best_constant - least
    return best_constant, 1.0 if np.isinf(scale) else scale if scale > 0 else float("nan")


def layer_of(path: str) -> str:
    """Return the path of the layer that owns a parameter."""
    return path.rpartition(".")[0]


def spikes(costs: Numbers) -> float:
    """Return the share of the costs above ``median + 10 MAD``."""
    if len(costs) == 0:
        return 0.0
    middle = np.median(costs)
    return float((costs > middle + SPIKE * np.median(np.abs(costs - middle))).mean())


def reduced(function: Any, values: Numbers) -> float:
    """Return the function of the numbers that are finite, NaN if none is."""
    finite = values[np.isfinite(values)]
    return float(function(finite)) if len(finite) else float("nan")
