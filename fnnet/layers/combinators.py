"""Layers made of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from fnnet import checks
from fnnet.activations import identity
from fnnet.configuration import configuration
from fnnet.layers.activation import Activation
from fnnet.layers.nesting import Children
from fnnet.types import Array, Layer, Params, Shaped


@configuration
class Sequential:
    """The composition of layers, ``y = f_L(... f_2(f_1(x)))``.

    The parameters are a tuple with one entry per layer. Layer ``i`` (from 0) gets the key
    ``jax.random.fold_in(key, i)``, in ``init`` as in ``apply``. ``fnnet.sequential(*layers)`` builds one, also from
    bare activation functions.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.layers, tuple):
            raise TypeError(
                f"Sequential: layers is a {type(self.layers).__name__}; expected a tuple, "
                f"or use fnnet.sequential(layer, layer, ...)"
            )
        for i, layer in enumerate(self.layers):
            require_layer("Sequential", f"layer {i}", layer)

    def children(self) -> Children:
        return tuple((str(i), layer) for i, layer in enumerate(self.layers))

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments("Sequential", key, x)
        x = jax.ShapeDtypeStruct(x.shape, x.dtype)
        params = []
        for i, layer in enumerate(self.layers):
            with naming(f"layer {i} of Sequential", layer):
                params.append(layer.init(jax.random.fold_in(key, i), x))
                x = jax.eval_shape(layer.apply, params[-1], x)
        return tuple(params)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        self.check(params)
        for i, (layer, p) in enumerate(zip(self.layers, params, strict=True)):
            with naming(f"layer {i} of Sequential", layer):
                x = layer.apply(p, x, key=self.key(key, i), train=train)
        return x

    def check(self, params: Params) -> None:
        if not isinstance(params, tuple):
            raise TypeError(
                f"Sequential: params is a {type(params).__name__}; expected a tuple with one entry per layer, as init "
                f"makes it"
            )
        if len(params) != len(self.layers):
            raise ValueError(
                f"Sequential: params has {len(params)} entries but there are {len(self.layers)} layers; "
                f"expected one entry per layer, as init makes them"
            )

    @staticmethod
    def key(key: Array | None, i: int) -> Array | None:
        """Return the key of layer ``i``."""
        return None if key is None else jax.random.fold_in(key, i)


IDENTITY = Activation(identity)


@configuration
class Residual:
    """The sum of a layer and a shortcut: ``y = f(x) + s(x)``, or ``y = f(x) + x`` without a ``shortcut``.

    If ``f`` changes the shape, ``shortcut`` is a layer that changes it in the same way, such as a 1×1 convolution of
    the same stride ("projection shortcut"). The parameters are ``{"layer": ..., "shortcut": ...}``, where the latter
    is ``{}`` without a shortcut. ``layer`` gets the key ``jax.random.fold_in(key, 0)``, ``shortcut``
    ``jax.random.fold_in(key, 1)``. Source: He et al. 2016, "Deep residual learning for image recognition", eq. 1, 2.
    """

    layer: Layer
    shortcut: Layer | None = None

    def __post_init__(self) -> None:
        require_layer("Residual", "layer", self.layer)
        if self.shortcut is not None:
            require_layer("Residual", "shortcut", self.shortcut)

    def init(self, key: Array, x: Shaped) -> Params:
        checks.init_arguments("Residual", key, x)
        params = {}
        for i, (name, layer) in enumerate(self.children()):
            with naming(f"the {name} of Residual", layer):
                params[name] = layer.init(jax.random.fold_in(key, i), x)
        return params

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        outputs = []
        for i, (name, layer) in enumerate(self.children()):
            with naming(f"the {name} of Residual", layer):
                outputs.append(layer.apply(params[name], x, key=Sequential.key(key, i), train=train))
        return self.sum(*outputs)

    def children(self) -> Children:
        return ("layer", self.layer), ("shortcut", self.shortcut or IDENTITY)

    @staticmethod
    def sum(y: Array, shortcut: Array) -> Array:
        checks.require(
            y.shape == shortcut.shape,
            f"Residual: layer gives shape {y.shape} but shortcut {shortcut.shape}; they are added, nothing is "
            f"broadcast: give a shortcut that changes the shape of x as layer does",
        )
        checks.same_dtype("Residual", "the output of layer", y, "that of shortcut", shortcut)
        return y + shortcut


def sequential(*layers: Layer | Callable[[Array], Array]) -> Sequential:
    """Return a ``Sequential`` of the layers; a bare function such as ``fnnet.relu`` becomes ``Activation(relu)``."""
    return Sequential(tuple(as_layer(layer) for layer in layers))


def as_layer(layer: Any) -> Any:
    if isinstance(layer, (Layer, type)) or not callable(layer):
        return layer  # Sequential raises for what is no layer
    return Activation(layer)


class naming:
    """Adds to an error in a layer which layer it is, and in which layer it stands."""

    def __init__(self, place: str, layer: Layer) -> None:
        self.place, self.layer = place, layer

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is not None:
            error.add_note(f"in {self.place}, {self.layer!r}")


def require_layer(place: str, name: str, layer: Any) -> None:
    if isinstance(layer, type) or not isinstance(layer, Layer):
        mend = f"write {layer.__name__}(...)" if isinstance(layer, type) else "wrap a function in Activation"
        mend = "write sequential(*layers) for a list of layers" if isinstance(layer, (list, tuple)) else mend
        raise TypeError(f"{place}: {name} is {layer!r}, which has no init and apply; {mend}")
