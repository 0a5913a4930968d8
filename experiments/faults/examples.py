"""Faults of the data and of their augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from experiments.faults.fault import Fault, fault
from fnnet.data.augment import random_flip
from fnnet.diagnosis import Setup
from fnnet.types import Array

Numbers = np.ndarray[Any, Any]
TABLES = "wine; cancer; friedman; digits"


def generator() -> np.random.Generator:
    """Return the same random numbers for all seeds of a run: a fault of the data is one of the data set."""
    return np.random.default_rng(7)


def with_inputs(setup: Setup, change: Callable[[Numbers], Numbers]) -> Setup:
    """Return the setup with changed inputs, in training and in validation."""
    data, validation = (
        None if pair is None else (change(np.asarray(pair[0])).astype(np.float32), pair[1])
        for pair in (setup.data, setup.validation)
    )
    assert data is not None
    return replace(setup, data=data, validation=validation)


def with_targets(setup: Setup, change: Callable[[Numbers], Numbers]) -> Setup:
    """Return the setup with changed targets, in training and in validation."""
    data, validation = (
        None if pair is None else (pair[0], change(np.asarray(pair[1])).astype(np.asarray(pair[1]).dtype))
        for pair in (setup.data, setup.validation)
    )
    assert data is not None
    return replace(setup, data=data, validation=validation)


def training(setup: Setup, x: Numbers, y: Numbers) -> Setup:
    """Return the setup with other training examples, of the same dtypes."""
    old_x, old_y = (np.asarray(part) for part in setup.data)
    batch_size = min(setup.batch_size, len(x))
    return replace(setup, data=(x.astype(old_x.dtype), y.astype(old_y.dtype)), batch_size=batch_size)


def raw_inputs(setup: Setup, decades: float) -> Setup:
    """Return the setup with its inputs in raw units: pixels from 0 to ``10^decades``, or columns of many units."""
    x = np.asarray(setup.data[0])
    if x.min() >= 0:
        return with_inputs(setup, lambda x: x * 10**decades)
    rng = generator()
    scale = 10 ** rng.uniform(-decades, decades, x.shape[-1])
    offset = rng.uniform(0, 5, x.shape[-1])
    return with_inputs(setup, lambda x: (x + offset) * scale)


def scaled_twice(setup: Setup, divisor: float) -> Setup:
    return with_inputs(setup, lambda x: x / divisor)


def targets_in_raw_units(setup: Setup, factor: float) -> Setup:
    return with_targets(setup, lambda y: y * factor)


def targets_far_from_zero(setup: Setup, offset: float) -> Setup:
    return with_targets(setup, lambda y: y + offset)


def one_large_column(setup: Setup, factor: float) -> Setup:
    """Return the setup with one column, of the largest variance, times a factor."""
    column = int(np.asarray(setup.data[0]).std(0).argmax())
    return with_inputs(setup, lambda x: np.where(np.arange(x.shape[-1]) == column, x * factor, x))


def constant_features(setup: Setup, share: float) -> Setup:
    features = np.asarray(setup.data[0]).shape[-1]
    chosen = generator().permutation(features)[: round(share * features)]
    return with_inputs(setup, lambda x: np.where(np.isin(np.arange(features), chosen), 1.0, x))


def shuffled_inputs(setup: Setup, share: float) -> Setup:
    """Return the setup with the inputs of a share of the training examples in another order than their targets."""
    x, y = (np.asarray(part) for part in setup.data)
    chosen = generator().permutation(len(x))[: round(share * len(x))]
    mixed = x.copy()
    mixed[chosen] = x[np.roll(chosen, 1)]
    return training(setup, mixed, y)


def wrong_labels(setup: Setup, share: float) -> Setup:
    """Return the setup with random labels for a share of the training examples."""
    x, y = (np.asarray(part) for part in setup.data)
    rng = generator()
    wrong = rng.permutation(len(y))[: round(share * len(y))]
    new = y.copy()
    new[wrong] = y[rng.permutation(len(y))][wrong]
    return training(setup, x, new)


def labels_off_by_one(setup: Setup, share: float) -> Setup:
    """Return the setup in which the last share of the training examples has the target of the next one."""
    x, y = (np.asarray(part) for part in setup.data)
    first = round((1 - share) * len(y))
    return training(setup, x, np.concatenate([y[:first], np.roll(y[first:], -1, 0)]))


def unbalanced(setup: Setup, ratio: int) -> Setup:
    """Return the setup in which the upper half of the classes has one example for ``ratio`` of the others."""
    x, y = (np.asarray(part) for part in setup.data)
    labels = y.reshape(-1)
    rare = labels > labels.max() / 2
    kept = ~rare | (np.cumsum(rare) % ratio == 0)
    return training(setup, x[kept], y[kept])


def duplicates(setup: Setup, share: float) -> Setup:
    """Return the setup whose training examples contain a share of the validation examples."""
    assert setup.validation is not None
    (x, y), (other_x, other_y) = (tuple(map(np.asarray, pair)) for pair in (setup.data, setup.validation))
    copies = min(round(share * len(other_x)), len(x) // 2)
    return training(
        setup,
        np.concatenate([other_x[:copies], x[: len(x) - copies]]),
        np.concatenate([other_y[:copies], y[: len(y) - copies]]),
    )


def label_as_a_feature(setup: Setup, noise: float) -> Setup:
    """Return the setup with its targets, plus noise, in the first column of the inputs."""
    rng = generator()

    def with_answer(pair: Any) -> Any:
        x, y = (np.asarray(part) for part in pair)
        answer = y.reshape(len(y), -1)[:, 0].astype(np.float32)
        answer = (answer - answer.mean()) / answer.std() + noise * rng.standard_normal(len(y))
        return np.concatenate([answer[:, None], x[:, 1:]], 1).astype(np.float32), pair[1]

    return replace(setup, data=with_answer(setup.data), validation=with_answer(setup.validation))


def sorted_examples(setup: Setup, whole: bool) -> Setup:
    """Return the setup with the examples sorted by their targets, and not shuffled."""
    x, y = (np.asarray(part) for part in setup.data)
    order = np.argsort(y.reshape(-1), kind="stable")
    if not whole:  # every second example stays where it is
        order[::2] = np.sort(order[::2])
    return replace(training(setup, x[order], y[order]), shuffle=False)


def few_examples(setup: Setup, share: float) -> Setup:
    """Return the setup with a share of the examples and as many updates."""
    x, y = (np.asarray(part) for part in setup.data)
    few = training(setup, x[: max(8, round(share * len(x)))], y[: max(8, round(share * len(x)))])
    return replace(few, epochs=max(1, round(setup.steps / few.steps_of_epoch)))


def other_preprocessing(setup: Setup, factor: float) -> Setup:
    """Return the setup whose validation inputs are in other units than the training inputs."""
    assert setup.validation is not None
    x, y = setup.validation
    return replace(setup, validation=((np.asarray(x) * factor).astype(np.float32), y))


def noise(key: Array, x: Array, *, stddev: float) -> Array:
    return x + stddev * jax.random.normal(key, x.shape, x.dtype)


def noisy_augmentation(setup: Setup, stddev: float) -> Setup:
    return replace(setup, augment=fnnet.data.augment.inputs(fnnet.bind(noise, stddev=stddev)))


def shifting_augmentation(setup: Setup, most: int) -> Setup:
    """Return the setup with images shifted so far that little of them is left."""
    shift = fnnet.bind(fnnet.data.augment.random_shift, most=most)
    return replace(setup, augment=fnnet.data.augment.inputs(shift))


def upside_down(key: Array, images: Array) -> Array:
    turned = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(turned, images[:, ::-1, ::-1], images)


def flipping_augmentation(setup: Setup, kind: str) -> Setup:
    """Return the setup with flips that turn one digit into another."""
    functions = {"mirrored": (random_flip,), "turned": (random_flip, upside_down)}[kind]
    return replace(setup, augment=fnnet.data.augment.inputs(*functions))


FAULTS: tuple[Fault, ...] = (
    fault("F23 raw inputs", raw_inputs, 1.3, 2.4, (4, 3), TABLES),
    fault("F24 inputs scaled twice", scaled_twice, 64.0, 255.0, (4, 14), "digits; images; moons"),
    fault("F25 targets not scaled", targets_in_raw_units, 30.0, 300.0, (5, 1, 3), "diabetes; friedman; linear"),
    fault("F25 targets far from 0", targets_far_from_zero, 100.0, 1000.0, (5, 1, 3), "diabetes; friedman; linear"),
    fault("F26 one large column", one_large_column, 1e2, 1e4, (4, 3), TABLES),
    fault("F27 constant features", constant_features, 0.8, 0.95, (6,), TABLES),
    fault("F28 inputs shuffled without labels", shuffled_inputs, 0.7, 1.0, (7, 37), TABLES),
    fault("F29 wrong labels", wrong_labels, 0.2, 0.6, (7, 37, 43, 44), TABLES),
    fault("F30 labels off by one", labels_off_by_one, 0.7, 1.0, (7, 37, 36), "digits; rows; friedman"),
    fault("F31 rare classes", unbalanced, 20, 50, (10, 38), "digits; images; cancer"),
    fault("F32 duplicates in training and test", duplicates, 0.1, 0.3, (8,), TABLES, certain=True),
    fault("F33 label as a feature", label_as_a_feature, 0.05, 0.0, (9, 49), TABLES, certain=True),
    fault("F34 sorted and not shuffled", sorted_examples, False, True, (11,), TABLES),
    fault("F35 too few examples", few_examples, 0.05, 0.01, (43, 44), "digits; images; friedman"),
    fault("F36 other preprocessing at validation", other_preprocessing, 10.0, 255.0, (50,), TABLES),
    fault("F37 augmentation that destroys: noise", noisy_augmentation, 1.5, 3.0, (45, 35, 50), "digits; images"),
    fault("F37 augmentation that destroys: shift", shifting_augmentation, 4, 8, (45, 35, 50), "images"),
    fault("F38 flip that changes the label", flipping_augmentation, "mirrored", "turned", (45, 37, 50), "images"),
)  # fmt: skip
