"""The public names of the library, read from its modules: what needs a case, a rule, a reference and a docstring."""

import inspect
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any

import fnnet
from fnnet import activations, initializers, layers, losses, optimizers, penalties, projections


def public_modules() -> list[ModuleType]:
    """Return ``fnnet``, its modules that have an ``__all__``, and those that its own ``__all__`` names."""
    found = [import_module(info.name) for info in pkgutil.walk_packages(fnnet.__path__, "fnnet.")]
    named = [value for value in (getattr(fnnet, name) for name in fnnet.__all__) if inspect.ismodule(value)]
    return [fnnet, *(module for module in found if hasattr(module, "__all__") or module in named)]


def public_names(module: ModuleType) -> dict[str, Any]:
    """Return the functions, classes and modules in ``__all__``, or else those that a module without one defines."""

    def is_defined_here(name: str, value: Any) -> bool:
        return not name.startswith("_") and getattr(value, "__module__", None) == module.__name__

    names = getattr(module, "__all__", None) or [n for n, value in vars(module).items() if is_defined_here(n, value)]
    values = {name: getattr(module, name) for name in names}
    return {
        name: value
        for name, value in values.items()
        if inspect.isfunction(value) or inspect.isclass(value) or inspect.ismodule(value)
    }


def own_docstring(value: Any) -> str:
    """Return the docstring of a function, class or module, without what a class inherits; empty if it has none."""
    return inspect.cleandoc(vars(value).get("__doc__") or "" if inspect.isclass(value) else value.__doc__ or "")


def functions_of(module: ModuleType) -> set[Any]:
    """Return the functions in the ``__all__`` of a module or package."""
    return {value for value in (getattr(module, name) for name in module.__all__) if inspect.isfunction(value)}


def public_initializers() -> set[Any]:
    """Return the functions that draw an array of a given shape."""
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
    """Return the functions that build an ``Optimizer`` and whose first argument is a learning rate."""
    functions = functions_of(optimizers)
    return {value for value in functions if [*inspect.signature(value).parameters][:1] == ["learning_rate"]}
