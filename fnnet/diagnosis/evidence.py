"""What ``diagnose`` knows of a run, and the few statistics that its verdicts share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from fnnet.cost import Cost
from fnnet.description import own_and_parts
from fnnet.diagnosis.report import NotLookedAt
from fnnet.diagnosis.statistics import divided
from fnnet.diagnosis.watched import Numbers, Watched, bounds_of, scale_of
from fnnet.optimizers import Optimizer
from fnnet.training.non_finite import NonFinite
from fnnet.training.state import TrainState
from fnnet.types import Batch

MOST = 512  # examples of a comparison on the host


class Series(NamedTuple):
    """``λ`` after each epoch and, if it was looked at, before the first one: ``(E,)`` each.

    ``error`` is the standard error over the examples, NaN where the losses of single examples are not known.
    """

    step: Numbers
    value: Numbers
    error: Numbers


@dataclass(frozen=True)
class Evidence:
    """A run as its verdicts see it. A method raises ``NotLookedAt`` where the run does not have what it returns."""

    cost: Cost
    history: Mapping[str, Numbers]
    watched: Watched | None = None
    state: TrainState | None = None
    optimizer: Optimizer | None = None
    data: Batch | None = None
    validation: Batch | None = None
    non_finite: NonFinite | None = None
    curvature: bool = False
    cache: dict[str, Any] = field(default_factory=dict, compare=False)

    def watch(self) -> Watched:
        return self.given("watched", "nobody watched the run; pass callbacks=[Watch()] to fit, and watch= to diagnose")

    def steps(self) -> Watched:
        """Return the watched run if steps of it were probed."""
        watched = self.watch()
        if not watched.steps.get("step"):
            raise NotLookedAt("no step of the run was probed; train for at least one")
        return watched

    def given(self, name: str, mend: str = "") -> Any:
        value = getattr(self, name)
        if value is None:
            raise NotLookedAt(mend or f"it needs {name}; pass {name}= to diagnose")
        return value

    def series(self, name: str) -> Numbers:
        """Return one number for each epoch, from the history."""
        if len(self.history.get(name, ())) == 0:
            raise NotLookedAt(f"the history has no {name!r}")
        return self.history[name]

    @property
    def epochs(self) -> int:
        return max((len(values) for values in self.history.values()), default=0)

    @cached_property
    def training(self) -> Series:
        """``λ`` of the training examples: deterministic and without the penalty where the run was watched."""
        return self.excess("training", "training_lambda", "cost", self.data)

    @cached_property
    def probe(self) -> Series:
        """``λ`` of the probe set of the watch, else of the validation data."""
        return self.excess("probe", "lambda", "validation_cost", self.validation)

    @cached_property
    def validated(self) -> Series:
        """``λ`` of examples that are not trained on."""
        validates = "validation_cost" in self.history if self.watched is None else self.watched.facts["validates"]
        if not validates:
            raise NotLookedAt("there are no validation data; pass validation= to fit, or probe= to Watch")
        return self.probe

    def excess(self, which: str, recorded: str, cost: str, data: Batch | None) -> Series:
        if self.watched is not None and self.watched.looks:
            value, error = self.watched.excess(which)
            series = Series(np.asarray(self.watched.looks["step"]), value, error)
        else:
            if recorded in self.history:
                value = self.history[recorded]
            elif data is not None and self.state is not None:
                best_constant, scale = scale_of(bounds_of(self.cost, self.state.params, first(data)))
                value = 1 + (self.series(cost) - best_constant) / scale
            else:
                raise NotLookedAt(
                    "λ needs the targets; watch the run, or pass data=, validation= and state= to diagnose"
                )
            step = self.history.get("step", np.arange(1, len(value) + 1))
            series = Series(step, value, np.full(len(value), np.nan))
        if np.isnan(series.value).all():
            raise NotLookedAt("a constant prediction is as good as any, so there is nothing to learn")
        return series

    @property
    def late_training(self) -> float:
        """``λ`` of the training examples at the end, the last finite one."""
        finite = self.training.value[np.isfinite(self.training.value)]
        return float(finite[-1]) if len(finite) else float("nan")

    def falls(self, first: int, last: int) -> bool:
        """Return whether the training loss is lower at the end of these steps than at their beginning, by 2 errors.

        The costs of the first and the second half of the probed steps are compared.
        """
        return self.fall(first, last) > 2

    def fall(self, first: int, last: int) -> float:
        """Return by how many standard errors the costs of the first half are above those of the second."""
        watched = self.steps()
        step, cost = (np.asarray(watched.steps[name]) for name in ("step", "cost"))
        costs = cost[(step >= first) & (step <= last) & np.isfinite(cost)]
        early, late = np.array_split(costs, 2)
        if len(late) < 2:
            return 0.0
        error = np.sqrt(early.var(ddof=1) / len(early) + late.var(ddof=1) / len(late))
        return divided(float(early.mean() - late.mean()), float(error))

    def hyperparameter(self, name: str) -> Any:
        """Return the value that an optimizer was made with, a number or a schedule, as far as it can be seen."""
        found = parts_named(self.given("optimizer").update, name)
        if not found and name == "learning_rate":  # ``leafwise`` has all of them in a tuple, the rate first
            found = [values[0] for values in parts_named(self.given("optimizer").update, "hyperparameters") if values]
        if not found:
            raise NotLookedAt(f"the optimizer does not show its {name}")
        return found[0]

    def sample(self, name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return at most 512 examples of ``data`` or ``validation`` in the memory of the host."""
        x, y = first(self.given(name))
        return np.asarray(x), np.asarray(y)


def first(data: Batch) -> Batch:
    return data[0][:MOST], data[1][:MOST]


def parts_named(value: Any, name: str, above: tuple[int, ...] = ()) -> list[Any]:
    """Return the values of this name that a function encloses, or what it encloses does."""
    if id(value) in above:
        return []
    found = []
    for own, part in own_and_parts(value)[1].items():
        found += [part] if own == name else parts_named(part, name, (*above, id(value)))
    return found


def predictions(evidence: Evidence, name: str) -> tuple[Numbers, Numbers, Numbers]:
    """Return inputs, targets and predictions of at most 512 examples of ``data`` or ``validation``, at the end."""
    x, y = evidence.sample(name)
    state = evidence.given("state")
    return x, y, np.asarray(jax.jit(evidence.cost.model.apply)(state.params, x))
