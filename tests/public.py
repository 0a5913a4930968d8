"""The public names of the library, read from its modules: what must have a case, a rule and a reference."""

import inspect
from types import ModuleType
from typing import Any

from fnnet import activations, initializers, layers, losses, optimizers, penalties, projections


def functions_of(module: ModuleType) -> set[Any]:
    """The functions that a module or package gives out."""
    return {value for value in (getattr(module, name) for name in module.__all__) if inspect.isfunction(value)}


def public_initializers() -> set[Any]:
    """Functions that draw an array of a shape, wherever they stand in the module."""
    return {
        value
        for value in vars(initializers).values()
        if inspect.isfunction(value) and [*inspect.signature(value).parameters][:3] == ["key", "shape", "dtype"]
    }


def public_activations() -> set[Any]:
    return functions_of(activations)


def public_losses() -> set[Any]:
    return functions_of(losses)


def public_projections() -> set[Any]:
    return functions_of(projections)


def public_penalties() -> set[Any]:
    return {
        value
        for value in vars(penalties).values()
        if inspect.isclass(value) and value.__module__ == penalties.__name__ and "__call__" in vars(value)
    }


def public_layers() -> set[Any]:
    return {value for value in (getattr(layers, name) for name in layers.__all__) if inspect.isclass(value)}


def public_optimizers() -> set[Any]:
    """Algorithms for any batch: functions that build an ``Optimizer`` out of a learning rate first of all."""
    functions = functions_of(optimizers)
    return {value for value in functions if [*inspect.signature(value).parameters][:1] == ["learning_rate"]}
