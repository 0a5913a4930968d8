"""The optimizers that are compared, by family, each as a function of its learning rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from fnnet import optimizers
from fnnet.optimizers import Optimizer
from fnnet.types import Array, Params, Scalar

Objective: TypeAlias = Callable[[Params], Array]


@dataclass(frozen=True)
class Contender:
    """An optimizer of one family. ``make`` gives it at a learning rate."""

    name: str
    family: str
    make: Callable[[Scalar], Optimizer]


MOMENTUM, COORDINATE, ADAM, VARIANTS, TENSOR = (
    "Descent and momentum",
    "A rate for each coordinate",
    "Adam",
    "Variants of Adam",
    "Signs, norms, matrices",
)

CONTENDERS = (
    Contender("sgd", MOMENTUM, optimizers.sgd),
    Contender("momentum", MOMENTUM, optimizers.momentum),
    Contender("nesterov", MOMENTUM, optimizers.nesterov),
    Contender("adagrad", COORDINATE, optimizers.adagrad),
    Contender("adadelta", COORDINATE, optimizers.adadelta),
    Contender("rmsprop", COORDINATE, optimizers.rmsprop),
    Contender("adam", ADAM, optimizers.adam),
    Contender("adamw", ADAM, optimizers.adamw),
    Contender("amsgrad", ADAM, optimizers.amsgrad),
    Contender("nadam", VARIANTS, optimizers.nadam),
    Contender("adamax", VARIANTS, optimizers.adamax),
    Contender("radam", VARIANTS, optimizers.radam),
    Contender("lion", TENSOR, optimizers.lion),
    Contender("muon", TENSOR, lambda rate: optimizers.muon(rate, others=optimizers.adam(rate))),
    Contender("lars", TENSOR, optimizers.lars),
    Contender("lamb", TENSOR, optimizers.lamb),
)
