"""Layers made of layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from fnnet.layers.activation import Activation
from fnnet.types import Array, Layer, Params, Shaped


@dataclass(frozen=True)
class Sequential:
    """The composition of layers, ``y = f_L(... f_2(f_1(x)))``.

    The parameters are a tuple, one entry per layer. Layer ``i`` (from 0) gets the key ``jax.random.fold_in(key, i)``,
    in ``init`` as in ``apply``. ``fnnet.sequential(*layers)`` builds one and takes bare activation functions.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.layers, tuple):
            raise TypeError(
                f"Sequential: layers is a {type(self.layers).__name__}; expected a tuple, "
                f"or use fnnet.sequential(layer, layer, ...)"
            )
        for i, layer in enumerate(self.layers):
            if isinstance(layer, type) or not isinstance(layer, Layer):
                mend = f"write {layer.__name__}(...)" if isinstance(layer, type) else "wrap a function in Activation"
                raise TypeError(f"Sequential: layer {i} is {layer!r}, which has no init and apply; {mend}")

    def init(self, key: Array, x: Shaped) -> Params:
        x = jax.ShapeDtypeStruct(x.shape, x.dtype)
        params = []
        for i, layer in enumerate(self.layers):
            with naming(i, layer):
                params.append(layer.init(jax.random.fold_in(key, i), x))
                x = jax.eval_shape(layer.apply, params[-1], x)
        return tuple(params)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        self.check(params)
        for i, (layer, p) in enumerate(zip(self.layers, params, strict=True)):
            with naming(i, layer):
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
        """The key of layer ``i``."""
        return None if key is None else jax.random.fold_in(key, i)


def sequential(*layers: Layer | Callable[[Array], Array]) -> Sequential:
    """``Sequential`` of the given layers; a bare function such as ``fnnet.relu`` becomes ``Activation(relu)``."""
    return Sequential(tuple(as_layer(layer) for layer in layers))


def as_layer(layer: Any) -> Any:
    if isinstance(layer, (Layer, type)) or not callable(layer):
        return layer  # what is no layer is refused by Sequential, by name
    return Activation(layer)


class naming:
    """Adds the layer's place in the Sequential to an error that comes out of it."""

    def __init__(self, i: int, layer: Layer) -> None:
        self.i, self.layer = i, layer

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is not None:
            error.add_note(f"in layer {self.i} of Sequential, {self.layer!r}")
