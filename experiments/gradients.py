"""Check every hand-written gradient of the library against autodiff and central differences.

Activations, layers, losses, penalties and whole models are checked in float64. For each one the table shows the largest
relative error of its tensors, the worst error of a central difference, and how many differences straddled a kink. The
exit status is 1 if a gradient is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.table import Table

import fnnet
from experiments.results import Results, console
from fnnet import activations, bind, losses, penalties

Arrays = Any


@dataclass(frozen=True)
class Config:
    seed: int = 0
    """Seed of the parameters, of the data and of the central differences."""
    tolerance: float = 1e-12
    """Largest relative error allowed for a tensor."""
    runs: Path = Path("runs")
    """Folder for the results."""


class Subject(NamedTuple):
    """What is checked: a layer with its input, or a cost with its batch."""

    kind: str
    name: str
    model: Any
    data: Arrays
    train: bool = False


def run(config: Config) -> int:
    results = Results("gradients", config, config.runs)
    table = Table("", "rel error", "differences", "at kinks", "", box=None)
    wrong = []
    for subject in subjects(np.random.default_rng(config.seed)):
        report = check(subject, config)
        errors = [row.differences for row in report.rows if row.differences is not None]
        numbers = {
            "tensors": len(report.rows),
            "relative": report.worst,
            "differences": max(errors, default=float("nan")),
            "kinks": sum(row.kinks for row in report.rows),
        }
        results.record(kind=subject.kind, name=subject.name, ok=report.ok, **numbers)
        table.add_row(
            f"[dim]{subject.kind}[/] {subject.name}",
            f"{report.worst:.1e}",
            f"{numbers['differences']:.0e}" if errors else "",
            str(numbers["kinks"] or ""),
            "ok" if report.ok else "[bold red]DIFFERS[/]",
        )
        if not report.ok:
            wrong.append(f"{subject.name}:\n{report}")
    console.print(table)
    verdict = f"{len(wrong)} wrong" if wrong else f"all {table.row_count} agree"
    console.print("\n\n".join([*wrong, verdict]), markup=False, highlight=False)
    results.summary(f"{verdict}; the tolerance is {config.tolerance:g} (relative, float64). See metrics.jsonl.")
    return 1 if wrong else 0


def check(subject: Subject, config: Config) -> fnnet.GradientReport:
    model = subject.model.model if isinstance(subject.model, fnnet.Cost) else subject.model
    x = subject.data[0] if isinstance(subject.model, fnnet.Cost) else subject.data
    return fnnet.check_gradients(
        subject.model,
        model.init(jax.random.key(config.seed), x),
        subject.data,
        key=jax.random.key(config.seed + 1),
        train=subject.train,
        tolerance=config.tolerance,
        seed=config.seed,
    )


def subjects(rng: np.random.Generator) -> Iterator[Subject]:
    """Yield everything public that has a gradient; new public activations and losses are included automatically."""
    x = normal(rng, 6, 8)
    functions = [getattr(activations, name) for name in activations.__all__]
    for f in [*functions, bind(activations.gelu, approximate=True), bind(activations.softmax, axis=0)]:
        yield Subject("activation", f.__name__, fnnet.Activation(f), 3 * x)
    yield Subject("layer", "Dense", fnnet.Dense(5), x)
    yield Subject("layer", "Dense, sequence, no bias", fnnet.Dense(5, use_bias=False), normal(rng, 2, 3, 4))
    yield Subject("layer", "Flatten", fnnet.Flatten(), normal(rng, 2, 3, 4))
    yield Subject("layer", "Dropout", fnnet.Dropout(0.4), x, train=True)
    yield Subject("layer", "GaussianNoise", fnnet.GaussianNoise(0.3), x, train=True)
    yield from layers_of_images(rng)
    for name in losses.__all__:
        yield from loss_subjects(name, x, rng)
    for penalty in (penalties.l1(0.1), penalties.l2(0.1), penalties.elastic_net(0.1, 0.2)):
        cost = fnnet.Cost(fnnet.Dense(3), losses.squared_error, penalty)
        yield Subject("penalty", type(penalty).__name__, cost, (x, normal(rng, 6, 3)))
    yield from models(rng)


def layers_of_images(rng: np.random.Generator) -> Iterator[Subject]:
    """Yield pooling, upsampling and normalization of images, and residual connections."""
    overlapping: dict[str, Any] = {"window": 3, "stride": 2, "padding": "SAME"}
    image = normal(rng, 4, 6, 5, 4)
    for name, layer in {
        "MaxPool": fnnet.MaxPool(2),
        "MaxPool, overlapping": fnnet.MaxPool(**overlapping),
        "AvgPool": fnnet.AvgPool(2),
        "AvgPool, overlapping": fnnet.AvgPool(**overlapping),
        "GlobalMaxPool": fnnet.GlobalMaxPool(),
        "GlobalAvgPool": fnnet.GlobalAvgPool(),
        "Upsample": fnnet.Upsample(2),
        "Upsample, linear": fnnet.Upsample(2, "linear"),
        "Affine": fnnet.Affine(),
        "LayerNorm": fnnet.LayerNorm(),
        "GroupNorm": fnnet.GroupNorm(2),
        "BatchNorm": fnnet.BatchNorm(),
    }.items():
        yield Subject("layer", name, layer, image)
    block = fnnet.sequential(fnnet.Dense(4, use_bias=False), fnnet.BatchNorm(), fnnet.relu, fnnet.Dense(4))
    yield Subject("layer", "Residual", fnnet.Residual(block), image)
    yield Subject("layer", "Residual, projected", fnnet.Residual(fnnet.Dense(3), fnnet.Dense(3)), image)


def loss_subjects(name: str, x: Arrays, rng: np.random.Generator) -> Iterator[Subject]:
    """Yield a loss after a network with suitable predictions, once for each kind of target that it takes."""
    loss = getattr(losses, name)
    body, targets = TARGETS[name]
    for kind, target in targets(rng).items():
        yield Subject("loss", f"{name}, {kind}" if kind else name, fnnet.Cost(body, loss), (x, target))
    if name in WITH_CLASS_OPTIONS:
        weighted = bind(loss, smoothing=0.1, class_weights=(0.5, 1.0, 2.0, 0.0))
        cost = fnnet.Cost(body, weighted, ignore_label=2)
        yield Subject("loss", f"{name}, options", cost, (x, targets(rng)["labels"]))


def models(rng: np.random.Generator) -> Iterator[Subject]:
    labels = rng.integers(0, 10, 32)
    for name, f in (("relu", fnnet.relu), ("tanh", fnnet.tanh), ("gelu", fnnet.gelu)):
        model = fnnet.sequential(fnnet.Flatten(), fnnet.Dense(30), f, fnnet.Dropout(0.2), fnnet.Dense(10))
        cost = fnnet.Cost(model, losses.softmax_cross_entropy, penalties.l2(1e-3))
        yield Subject("model", f"64-30-10 {name}, dropout, l2", cost, (normal(rng, 32, 8, 8), labels), train=True)
    wide = fnnet.Cost(fnnet.sequential(fnnet.Dense(100), fnnet.relu, fnnet.Dense(10)), losses.softmax_cross_entropy)
    yield Subject("model", "784-100-10 relu", wide, (normal(rng, 32, 784), labels))
    fused = fnnet.sequential(fnnet.Dense(12), fnnet.sigmoid, fnnet.Dense(10), fnnet.softmax)
    yield Subject(
        "model",
        "softmax and cross-entropy as one",
        fnnet.Cost(fused, losses.cross_entropy),
        (normal(rng, 32, 9), labels),
    )


Targets = Callable[[np.random.Generator], dict[str, Arrays]]


def real(rng: np.random.Generator) -> dict[str, Arrays]:
    return {"": normal(rng, 6, 4)}


def binary(rng: np.random.Generator) -> dict[str, Arrays]:
    return {"labels": rng.integers(0, 2, (6, 4)), "probabilities": rng.random((6, 4))}


def signs(rng: np.random.Generator) -> dict[str, Arrays]:
    return {"": 2 * rng.integers(0, 2, (6, 4)) - 1}


def counts(rng: np.random.Generator) -> dict[str, Arrays]:
    return {"": rng.integers(0, 9, (6, 4))}


def distributions(rng: np.random.Generator) -> dict[str, Arrays]:
    return {"distributions": rng.dirichlet(np.ones(4), 6)}


def classes(rng: np.random.Generator) -> dict[str, Arrays]:
    return {"labels": np.array([0, 3, 2, 1, 0, 3])} | distributions(rng)


def half_as_many(rng: np.random.Generator) -> dict[str, Arrays]:
    return {"": normal(rng, 6, 2)}


def normal(rng: np.random.Generator, *shape: int) -> Arrays:
    return rng.standard_normal(shape)


WITH_CLASS_OPTIONS = ("cross_entropy", "softmax_cross_entropy", "focal")
OUTPUTS = fnnet.sequential(fnnet.Dense(4))
# identity separates softmax or sigmoid from the loss, so that their rules are not fused and each one is checked.
PROBABILITIES = fnnet.sequential(fnnet.Dense(4), fnnet.softmax, fnnet.identity)
CHANCES = fnnet.sequential(fnnet.Dense(4), fnnet.sigmoid, fnnet.identity)
TARGETS: dict[str, tuple[Any, Targets]] = {
    "squared_error": (OUTPUTS, real),
    "half_squared_error": (OUTPUTS, real),
    "absolute_error": (OUTPUTS, real),
    "huber": (OUTPUTS, real),
    "log_cosh": (OUTPUTS, real),
    "cosine": (OUTPUTS, real),
    "binary_cross_entropy": (CHANCES, binary),
    "sigmoid_cross_entropy": (OUTPUTS, binary),
    "hinge": (OUTPUTS, signs),
    "squared_hinge": (OUTPUTS, signs),
    "cross_entropy": (PROBABILITIES, classes),
    "softmax_cross_entropy": (OUTPUTS, classes),
    "focal": (OUTPUTS, classes),
    "kl_divergence": (PROBABILITIES, distributions),
    "poisson_negative_log_likelihood": (OUTPUTS, counts),
    "gaussian_negative_log_likelihood": (OUTPUTS, half_as_many),
}
