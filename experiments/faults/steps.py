"""Faults of the optimizer, the schedule, the penalty and the length of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import fnnet
from experiments.faults.bases import BASES, Base
from experiments.faults.examples import few_examples
from experiments.faults.fault import Fault, changed, fault
from fnnet import optimizers, penalties, schedules
from fnnet.diagnosis import Change, Setup
from fnnet.paths import named_leaves

SEVERAL = "moons; digits; digits deep; friedman; wine; images; rows; mnist"


def rate_too_high(setup: Setup, factor: float) -> Setup:
    return changed(setup, Change("learning_rate", "scale", factor))


def rate_too_low(setup: Setup, divisor: float) -> Setup:
    return changed(setup, Change("learning_rate", "scale", 1 / divisor))


def frozen(setup: Setup, kept: str) -> Setup:
    """Return the setup in which all layers but the last, or but the first, stand still."""
    layers = list(dict.fromkeys(name.split(".")[0] for name, _ in named_leaves(setup.params)))
    trained = layers[-1 if kept == "last" else 0]
    still = optimizers.freeze(lambda name: name.split(".")[0] != trained)
    return replace(setup, optimizer=optimizers.chain(setup.optimizer, still))


def base_of(setup: Setup) -> Base:
    """Return the base with the model of a healthy setup."""
    return next(base for base in BASES.values() if base.model == setup.cost.model)


def large_epsilon(setup: Setup, epsilon: float) -> Setup:
    return replace(setup, optimizer=optimizers.adam(base_of(setup).rate, epsilon=epsilon))


def tight_clip(setup: Setup, bound: float) -> Setup:
    """Return the setup with plain gradient descent whose gradients are clipped to almost nothing."""
    return replace(setup, optimizer=optimizers.chain(optimizers.clip_by_global_norm(bound), optimizers.sgd(0.05)))


def no_clip(setup: Setup, rate: float) -> Setup:
    """Return the setup with gradient descent without a clip, at a rate that needs one."""
    return replace(setup, optimizer=optimizers.sgd(rate))


def heavy_momentum(setup: Setup, beta: float) -> Setup:
    return replace(setup, optimizer=optimizers.momentum(base_of(setup).rate, beta, averaged=False))


def early_end_of_the_schedule(setup: Setup, share: float) -> Setup:
    """Return the setup whose rate falls to 0 within a share of the run."""
    base, steps = base_of(setup), max(1, round(share * setup.steps))
    return replace(setup, optimizer=base.optimizer(schedules.polynomial(base.rate, 0.0, steps)))


def too_few_epochs(setup: Setup, divisor: int) -> Setup:
    return replace(setup, epochs=max(1, setup.epochs // divisor))


def batch_of_one(setup: Setup, size: int) -> Setup:
    """Return the setup with tiny batches, as many updates as before or a few more, and the rate of large ones."""
    epochs = max(1, round(setup.epochs * size / setup.batch_size))
    return replace(setup, batch_size=size, epochs=epochs)


def whole_batch(setup: Setup, epochs: int) -> Setup:
    """Return the setup with one update in each of a few epochs."""
    return replace(setup, batch_size=len(setup.data[0]), epochs=epochs)


def wide_on_few_examples(setup: Setup, factor: float) -> Setup:
    """Return the setup with a network that is many times as wide, and 200 examples."""
    wide = changed(setup, Change("model", "widen", factor))
    return few_examples(wide, 200 / len(np.asarray(setup.data[0])))


def strong_penalty(setup: Setup, strength: float) -> Setup:
    return changed(setup, Change("penalty", "replace", penalties.l2(strength)))


def heavy_dropout(setup: Setup, rate: float) -> Setup:
    """Return the setup with this rate of dropout before every layer with parameters, the inputs included."""
    places = [i for i, params in enumerate(setup.params) if params]
    return changed(setup, *(Change(f"model.{i}", "insert", fnnet.Dropout(rate)) for i in reversed(places)))


def low_precision(setup: Setup, dtype: str) -> Setup:
    """Return the setup in few bits: float16 without a loss scale, or bfloat16 parameters at a low rate."""
    if dtype == "float16":
        tiny = changed(setup, Change("learning_rate", "scale", 1.0))
        return replace(tiny, cost=replace(tiny.cost, model=fnnet.LowPrecision(tiny.cost.model, "float16")))
    low = changed(setup, Change("params", "cast", "bfloat16"))
    return replace(low, optimizer=optimizers.sgd(1e-4))


Function = Callable[[Setup, Any], Setup]

FAULTS: tuple[Fault, ...] = (
    fault("F20 frozen by mistake", frozen, "last", "first", (27,), "digits deep; friedman; images"),
    fault("F39 rate too high", rate_too_high, 10.0, 100.0, (25, 28, 24, 23, 31, 48), SEVERAL),
    fault("F40 rate too low", rate_too_low, 30.0, 1000.0, (26, 27, 46), SEVERAL),
    fault("F41 epsilon of Adam", large_epsilon, 0.1, 10.0, (39, 26), "digits deep; images; rows"),
    fault("F42 clip too tight", tight_clip, 1e-2, 1e-4, (40, 26), "digits; moons; images"),
    fault("F42 no clip in a recurrent network", no_clip, 1.0, 5.0, (31, 25, 24, 23, 33), "adding; rows"),
    fault("F43 momentum of 0.999", heavy_momentum, 0.99, 0.999, (25, 24, 23, 28), "moons; mnist; images, batch norm"),
    fault("F44 schedule that ends early", early_end_of_the_schedule, 0.1, 0.03, (47, 26, 46), SEVERAL),
    fault("F45 too few epochs", too_few_epochs, 10, 50, (46, 26), SEVERAL),
    fault("F46 batch of one", batch_of_one, 2, 1, (35, 25, 24, 23, 28, 46), "moons; digits; wine"),
    fault("F46 whole batch for a few epochs", whole_batch, 10, 5, (46, 26), "moons; digits; mnist"),
    fault("F47 wide, few examples", wide_on_few_examples, 5.0, 10.0, (43, 44), "digits; images; friedman"),
    fault("F48 penalty too strong", strong_penalty, 0.3, 3.0, (34,), SEVERAL),
    fault("F49 dropout too strong", heavy_dropout, 0.8, 0.9, (45, 20, 35), "digits deep; moons; friedman"),
    fault("F53 few bits", low_precision, "float16", "bfloat16", (23, 27, 26), "digits; moons"),
)  # fmt: skip
