"""Pairs of optimizers of fnnet and of a peer, how their definitions differ, and the options that make them equal.

PyTorch and optax are imported only when their optimizers are built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from fnnet import optimizers

RATE = 0.01
Make = Callable[..., Any]  # builds an optimizer; that of PyTorch takes the parameters


@dataclass(frozen=True)
class Pair:
    """An optimizer of fnnet and one of a peer with the same hyper-parameters.

    If their definitions differ, ``difference`` says how, and ``ours_equal`` and ``theirs_equal`` have the options that
    make them equal, if there are any.
    """

    algorithm: str
    peer: Literal["torch", "optax"]
    ours: Make
    theirs: Make
    difference: str = ""
    ours_equal: Make | None = None
    theirs_equal: Make | None = None

    def sides(self) -> dict[str, Make]:
        """Return the optimizers to run, by the name of their side."""
        sides = {"ours": self.ours, "theirs": self.theirs}
        if self.ours_equal is None and self.theirs_equal is None:
            return sides
        return sides | {"ours_equal": self.ours_equal or self.ours, "theirs_equal": self.theirs_equal or self.theirs}


@cache  # an optimizer that is compared with both peers runs once
def ours(name: str, *arguments: Any, **options: Any) -> Make:
    return lambda: getattr(optimizers, name)(RATE, *arguments, **options)


def torch(name: str, **options: Any) -> Make:
    def make(parameters: Any) -> Any:
        import torch

        return getattr(torch.optim, name)(parameters, lr=RATE, **options)

    return make


def optax(name: str, **options: Any) -> Make:
    def make() -> Any:
        import optax

        return getattr(optax, name)(RATE, **options)

    return make


def optax_moving_average() -> Any:
    import optax

    return optax.chain(optax.ema(0.9, debias=False), optax.scale(-RATE))


def optax_muon(**options: Any) -> Make:
    def make() -> Any:
        import optax

        dimensions = {"w": 0, "kernel": (0, 1)}

        def numbers(params: Any) -> Any:
            spec = optax.contrib.MuonDimensionNumbers
            return {name: spec(dimensions[name], -1) if name in dimensions else None for name in params}

        return optax.contrib.muon(RATE, beta=0.9, muon_weight_dimension_numbers=numbers, **options)

    return make


def everywhere(name: str) -> bool:
    return True


RMSPROP = {"decay": 0.9, "eps": 1e-8}
ROOT = "ε inside the root: eps_in_sqrt=False"

PAIRS = (
    Pair("sgd", "torch", ours("sgd"), torch("SGD")),
    Pair("sgd", "optax", ours("sgd"), optax("sgd")),
    Pair(
        "momentum", "torch", ours("momentum"), torch("SGD", momentum=0.9, dampening=0.1),
        "starts with the first gradient undamped: averaged=False, dampening=0",
        ours("momentum", averaged=False), torch("SGD", momentum=0.9),
    ),
    Pair("momentum", "optax", ours("momentum"), optax_moving_average),
    Pair("momentum, heavy ball", "optax", ours("momentum", averaged=False), optax("sgd", momentum=0.9)),
    Pair("nesterov", "torch", ours("nesterov"), torch("SGD", momentum=0.9, nesterov=True)),
    Pair("nesterov", "optax", ours("nesterov"), optax("sgd", momentum=0.9, nesterov=True)),
    Pair("adagrad", "torch", ours("adagrad"), torch("Adagrad", eps=1e-10)),
    Pair(
        "adagrad", "optax", ours("adagrad"), optax("adagrad"),
        "ε inside the root, squares start at 0.1: epsilon=0, initial_accumulator=0.1",
        ours("adagrad", 0.0, initial_accumulator=0.1), optax("adagrad", eps=0.0),
    ),
    Pair("adadelta", "torch", ours("adadelta"), torch("Adadelta", rho=0.9, eps=1e-6)),
    Pair("adadelta", "optax", ours("adadelta"), optax("adadelta", rho=0.9, eps=1e-6)),
    Pair("rmsprop", "torch", ours("rmsprop"), torch("RMSprop", alpha=0.9)),
    Pair(
        "rmsprop", "optax", ours("rmsprop"), optax("rmsprop", **RMSPROP), ROOT,
        theirs_equal=optax("rmsprop", **RMSPROP, eps_in_sqrt=False),
    ),
    Pair("rmsprop, centered", "torch", ours("rmsprop", centered=True), torch("RMSprop", alpha=0.9, centered=True)),
    Pair(
        "rmsprop, centered", "optax", ours("rmsprop", centered=True), optax("rmsprop", **RMSPROP, centered=True), ROOT,
        theirs_equal=optax("rmsprop", **RMSPROP, centered=True, eps_in_sqrt=False),
    ),
    Pair(
        "rmsprop, with momentum", "torch",
        ours("rmsprop", momentum=0.9, centered=True), torch("RMSprop", alpha=0.9, momentum=0.9, centered=True),
    ),
    Pair(
        "rmsprop, with momentum", "optax",
        ours("rmsprop", momentum=0.9), optax("rmsprop", **RMSPROP, momentum=0.9), ROOT,
        theirs_equal=optax("rmsprop", **RMSPROP, momentum=0.9, eps_in_sqrt=False),
    ),
    Pair("adam", "torch", ours("adam"), torch("Adam")),
    Pair("adam", "optax", ours("adam"), optax("adam")),
    Pair(
        "adamw", "torch", ours("adamw"), torch("AdamW", weight_decay=0.01),
        "decays biases too: where=lambda name: True",
        ours("adamw", where=everywhere),
    ),
    Pair(
        "adamw", "optax", ours("adamw"), optax("adamw", weight_decay=0.01),
        "decays biases too: where=lambda name: True",
        ours("adamw", where=everywhere),
    ),
    Pair("amsgrad", "torch", ours("amsgrad"), torch("Adam", amsgrad=True)),
    Pair("amsgrad", "optax", ours("amsgrad"), optax("amsgrad"), "maximum after the bias correction: no option"),
    Pair(
        "nadam", "torch", ours("nadam"), torch("NAdam"), "β₁ grows, but not in m: momentum_decay=1e9 keeps it constant",
        theirs_equal=torch("NAdam", momentum_decay=1e9),
    ),
    Pair("nadam", "optax", ours("nadam"), optax("nadam")),
    Pair("adamax", "torch", ours("adamax"), torch("Adamax")),
    Pair("adamax", "optax", ours("adamax"), optax("adamax")),
    Pair(
        "radam", "torch", ours("radam"), torch("RAdam"), "ε is added to √v before its bias correction: epsilon=0",
        ours("radam", epsilon=0.0), torch("RAdam", eps=0.0),
    ),
    Pair("radam", "optax", ours("radam"), optax("radam")),
    Pair("lion", "optax", ours("lion", weight_decay=0.01, where=everywhere), optax("lion", weight_decay=0.01)),
    Pair(
        "lars", "optax", ours("lars", weight_decay=0.1, where=everywhere), optax("lars", weight_decay=0.1),
        "ratio to ‖g + ω θ‖: weight_decay=0",
        ours("lars", where=everywhere), optax("lars"),
    ),
    Pair("lamb", "optax", ours("lamb", weight_decay=0.01, where=everywhere), optax("lamb", weight_decay=0.01)),
    Pair(
        "muon", "optax",
        ours("muon", optimizers.nadam(RATE), 0.9), optax_muon(),
        "bias correction within Nesterov's momentum, ε added to the norm: nesterov=False, eps=0",
        ours("muon", optimizers.adam(RATE, epsilon=0.0), 0.9, nesterov=False), optax_muon(nesterov=False, eps=0.0),
    ),
)  # fmt: skip
