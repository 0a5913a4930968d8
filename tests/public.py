"""The public names of the library, read from its modules: what must have a case, a rule and a reference."""

import inspect
from types import ModuleType
from typing import Any

from fnnet import activations, layers, losses, optimizers, penalties


def functions_of(module: ModuleType, *parameters: str) -> set[Any]:
    """The functions written in a module whose signature begins with these parameters."""
    return {
        value
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and tuple(inspect.signature(value).parameters)[: len(parameters)] == parameters
    }


def public_activations() -> set[Any]:
    return functions_of(activations, "z")


def public_losses() -> set[Any]:
    return functions_of(losses, "prediction", "target")


def public_penalties() -> set[Any]:
    return {
        value
        for value in vars(penalties).values()
        if inspect.isclass(value) and value.__module__ == penalties.__name__ and "__call__" in vars(value)
    }


def public_layers() -> set[Any]:
    return {value for value in (getattr(layers, name) for name in layers.__all__) if inspect.isclass(value)}


def public_optimizers() -> set[Any]:
    """Functions that build an ``Optimizer`` out of numbers; ``chain`` builds one out of others."""
    functions = (getattr(optimizers, name) for name in optimizers.__all__)
    return {
        value
        for value in functions
        if inspect.isfunction(value)
        and inspect.signature(value).return_annotation in ("Optimizer", optimizers.Optimizer)
        and value is not optimizers.chain
    }
