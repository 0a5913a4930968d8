"""The optimizers that the experiments compare, by family, each as a function of its learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from experiments.tuning import Numbers
from fnnet import optimizers
from fnnet.optimizers import Optimizer
from fnnet.types import Array, Params, Scalar

Objective: TypeAlias = Callable[[Params], Array]
Make: TypeAlias = Callable[[Scalar, Objective], Optimizer]


@dataclass(frozen=True)
class Contender:
    """An optimizer of one family, which ``make(learning_rate, objective)`` builds."""

    name: str
    family: str
    make: Make
    whole_batch: bool = False  # whether it needs the objective itself and not gradients of batches
    tuned: bool = True  # whether it has a learning rate; otherwise it has a line search
    for_networks: bool = True  # False for newton, which solves an n × n system for n parameters

    def shown_rate(self, rates: Numbers, best: int) -> str:
        """Return the rate, with a star if it is at an end of the grid, since a better one may lie beyond."""
        if not self.tuned:
            return "line search"
        return f"{rates[best]:.2g}" + ("*" if best in (0, len(rates) - 1) else "")


def by_family(values: Mapping[Contender, Any]) -> dict[str, dict[str, Any]]:
    families: dict[str, dict[str, Any]] = {}
    for contender, each in values.items():
        families.setdefault(contender.family, {})[contender.name] = each
    return families


def by_gradients(algorithm: Callable[[Scalar], Optimizer]) -> Make:
    return lambda rate, objective: algorithm(rate)


MOMENTUM, COORDINATE, ADAM, VARIANTS, TENSOR, WHOLE = (
    "Descent and momentum",
    "A rate for each coordinate",
    "Adam",
    "Variants of Adam",
    "Signs, norms, matrices",
    "Whole batch",
)

# momentum is the averaged form: the heavy ball takes the same steps at a tenth of the rate.
CONTENDERS = (
    Contender("sgd", MOMENTUM, by_gradients(optimizers.sgd)),
    Contender("momentum", MOMENTUM, by_gradients(optimizers.momentum)),
    Contender("nesterov", MOMENTUM, by_gradients(optimizers.nesterov)),
    Contender("adagrad", COORDINATE, by_gradients(optimizers.adagrad)),
    Contender("adadelta", COORDINATE, by_gradients(optimizers.adadelta)),
    Contender("rmsprop", COORDINATE, by_gradients(optimizers.rmsprop)),
    Contender("adam", ADAM, by_gradients(optimizers.adam)),
    Contender("adamw", ADAM, by_gradients(optimizers.adamw)),
    Contender("amsgrad", ADAM, by_gradients(optimizers.amsgrad)),
    Contender("nadam", VARIANTS, by_gradients(optimizers.nadam)),
    Contender("adamax", VARIANTS, by_gradients(optimizers.adamax)),
    Contender("radam", VARIANTS, by_gradients(optimizers.radam)),
    Contender("lion", TENSOR, by_gradients(optimizers.lion)),
    Contender("muon", TENSOR, by_gradients(lambda rate: optimizers.muon(rate, others=optimizers.adam(rate)))),
    Contender("lars", TENSOR, by_gradients(optimizers.lars)),
    Contender("lamb", TENSOR, by_gradients(optimizers.lamb)),
    Contender(
        "newton",
        WHOLE,
        lambda rate, objective: optimizers.newton(objective, rate, damping=1e-4, saddle_free=True),
        whole_batch=True,
        for_networks=False,
    ),
    Contender("lbfgs", WHOLE, lambda rate, objective: optimizers.lbfgs(objective), whole_batch=True, tuned=False),
    Contender(
        "conjugate_gradient",
        WHOLE,
        lambda rate, objective: optimizers.conjugate_gradient(objective),
        whole_batch=True,
        tuned=False,
    ),
)
