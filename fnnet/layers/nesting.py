"""The one walk over nested layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fnnet.types import Layer, Params

Children = tuple[tuple[str, Layer], ...]


def children(layer: Layer) -> Children:
    """Return the layers that ``layer`` is made of, ``((name, layer), ...)``, and ``()`` for a layer of no others.

    A combinator says so in one place, its method ``children``. The name is that of the child in the parameters:
    ``"0"`` for the first entry of a tuple, ``"shortcut"`` for a key of a dict, and ``""`` where the parameters of the
    combinator are the child's own. Recurrent cells are no layers, and no children.
    """
    method = getattr(layer, "children", None)
    return () if method is None else method()


def child_params(params: Params, name: str) -> Params:
    """Return the parameters of the child with this name, from those of the combinator."""
    if not name:
        return params
    return params[int(name)] if isinstance(params, tuple) else params[name]


def nested(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """Yield ``(path, layer)`` for a layer and all layers inside it, each before its children.

    Paths are those of ``fnnet.paths``: the parameter ``w`` of the layer at ``"0.shortcut"`` is ``"0.shortcut.w"``.
    """
    yield path, layer
    for name, child in children(layer):
        yield from nested(child, ".".join(filter(None, (path, name))))


def holds(layer: Layer, kind: Any) -> bool:
    """Return whether the layer, or one inside it, is an instance of ``kind``."""
    return any(isinstance(inner, kind) for _, inner in nested(layer))
