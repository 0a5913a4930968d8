"""The report on a run, from what was measured in it and from its history."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnnet.cost import Cost
from fnnet.diagnosis.evidence import Evidence
from fnnet.diagnosis.report import Check, Report, report_of
from fnnet.diagnosis.verdicts import generalization, recurrence, regularization, steps, units
from fnnet.diagnosis.watch import Watch
from fnnet.diagnosis.watched import Watched
from fnnet.optimizers import Optimizer
from fnnet.training.fit import FitResult
from fnnet.training.record import read_record
from fnnet.training.state import TrainState
from fnnet.training.sweep import SEED, Make, SweepResult
from fnnet.types import Batch

Run = FitResult | Mapping[str, Sequence[float]] | Sequence[Mapping[str, float]] | str | Path

CHECKS: dict[str, Check] = {
    "not finite": steps.not_finite,
    "diverges": steps.diverges,
    "learning rate too high": steps.learning_rate_too_high,
    "learning rate too low": steps.learning_rate_too_low,
    "a layer stands still": steps.a_layer_stands_still,
    "ReLUs die": units.relus_die,
    "units are saturated": units.units_are_saturated,
    "gradients vanish": steps.gradients_vanish,
    "gradients explode": steps.gradients_explode,
    "memory does not reach back": recurrence.memory_does_not_reach_back,
    "state explodes through time": recurrence.state_explodes_through_time,
    "a penalty rules": regularization.a_penalty_rules,
    "noise rules": steps.noise_rules,
    "stuck at the constant": units.stuck_at_the_constant,
    "memorizes without learning": generalization.memorizes_without_learning,
    "a class is not learned": generalization.a_class_is_not_learned,
    "optimizer's ε rules": steps.epsilon_rules,
    "every gradient is clipped": steps.every_gradient_is_clipped,
    "loss spikes": steps.loss_spikes,
    "at the edge of stability": steps.at_the_edge_of_stability,
    "overfits": generalization.overfits,
    "lack of regularization": regularization.lack_of_regularization,
    "underfits: too small": generalization.underfits,
    "stopped too early": generalization.stopped_too_early,
    "rate decayed too early": steps.rate_decayed_too_early,
    "rate still too high at the end": steps.rate_still_too_high_at_the_end,
    "validation better than training": generalization.validation_better_than_training,
    "training and test differ": generalization.training_and_test_differ,
}


def diagnose(
    run: Run,
    cost: Cost,
    state: TrainState | None = None,
    *,
    watch: Watch | Watched | None = None,
    data: Batch | None = None,
    validation: Batch | None = None,
    optimizer: Optimizer | None = None,
    curvature: bool = False,
    leave_out: Iterable[str] = (),
) -> Report:
    """Return the report on a run that has ended, or on what it has made so far.

    ``run`` is what ``fit`` returned, its history, the records of its epochs, or the file that ``JsonLines`` wrote. The
    more is given, the more is looked at: ``watch``, the ``Watch`` among the callbacks of the run, for all that happens
    in the steps and the layers; ``data`` and ``validation``, pairs of arrays, for neighbours and classes; the ``state``
    at the end (that of a ``FitResult`` is taken); the ``optimizer``, for its rate and its bounds; ``curvature``, for 20
    products with the Hessian. ``report.not_looked_at`` says what was missing. ``leave_out`` has the names of verdicts
    that are meant to be so.

    A verdict is exact where it is a theorem about the program, else suspected: ``remedies`` confirms or refutes it.
    """
    history = history_of(run)
    evidence = Evidence(
        cost,
        history,
        watch.watched if isinstance(watch, Watch) else watch or Watched.of_history(history),
        run.state if state is None and isinstance(run, FitResult) else state,
        optimizer,
        data,
        validation,
        run.non_finite if isinstance(run, FitResult) else None,
        curvature,
    )
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means over no finite number, which are NaN
        return report_of(CHECKS, evidence, leave_out)


def history_of(run: Run) -> dict[str, np.ndarray[Any, Any]]:
    """Return the history of a run as arrays with one number for each epoch."""
    if isinstance(run, (str, Path)):
        run = read_record(run)
    history: Any = run.history if isinstance(run, FitResult) else run
    if not isinstance(history, Mapping):
        names = dict.fromkeys(name for record in history for name in record)
        history = {name: [record[name] for record in history if name in record] for name in names}
    return {name: np.asarray(values, np.float64) for name, values in history.items()}


def diagnose_sweep(
    result: SweepResult,
    make: Make,
    data: Batch,
    *,
    watch: Watch,
    validation: Batch | None = None,
    batch_size: int = 32,
    leave_out: Iterable[str] = (),
) -> list[Report]:
    """Return the report on each run of a ``sweep`` that was watched, in the order of the settings.

    ``make``, ``data``, ``validation`` and ``batch_size`` are those of the sweep: ``{name: [r.ok for r in reports]}``
    and the settings make a map of verdicts over hyper-parameters. One step per epoch was probed, so the first 20 steps,
    whose damage a rate that is too high does, are not seen.
    """
    if result.watched is None:
        raise ValueError("diagnose_sweep: the sweep was not watched; pass watch=Watch() to sweep")
    host: Any = jax.device_get((result.settings, result.states, result.history, result.watched))
    sets = watch.sets(data, validation)
    steps_of_epoch = -(-len(data[0]) // batch_size)
    reports = []
    for r in range(len(next(iter(result.settings.values())))):
        settings, state, history, measured = jax.tree.map(lambda a, r=r: a[r], host)
        cost, optimizer, *_ = make(**{name: value.item() for name, value in settings.items() if name != SEED})
        watched = Watched.begun(cost, state.params, *sets, batch_size, steps_of_epoch)
        watched.add_look(0, measured["start"])
        history["epoch"] = 1 + np.arange(len(history["cost"]))
        history["step"] = history["epoch"] * steps_of_epoch
        for e, step in enumerate(history["step"].tolist()):
            watched.add_steps(jax.tree.map(lambda a, e=e: a[e : e + 1], measured["step"]))
            watched.costs = []  # of every step are not known
            watched.add_look(step, jax.tree.map(lambda a, e=e: a[e], measured["look"]))
        given: dict[str, Any] = {"watch": watched, "data": data, "validation": validation, "optimizer": optimizer}
        reports.append(diagnose(history, cost, state, leave_out=leave_out, **given))
    return reports
