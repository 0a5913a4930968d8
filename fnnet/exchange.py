"""Weights of recurrent networks from PyTorch and to PyTorch.

The weights of a module are the module itself, its ``state_dict()``, or any mapping from PyTorch's names to arrays;
PyTorch itself is not needed. Layer ``k`` has

    weight_ih_lk (G H, D)    weight_hh_lk (G H, H)    bias_ih_lk (G H,)    bias_hh_lk (G H,)

and for the second direction the same names with ``_reverse`` at the end. The ``G`` gates stand one below the other, in
the order of fnnet: ``r, z, n`` of a GRU (``z`` is the update gate ``u``) and ``i, f, g, o`` of an LSTM. So ``w_x`` and
``w_h`` are the transposed matrices, and ``b = bias_ih + bias_hh``. The candidate of a GRU is an exception, because its
recurrent bias stands inside the reset gate: ``b_h`` is the candidate's entries of ``bias_hh``.

The model must compute what the module does: ``Recurrent(RNNCell(H))`` for ``nn.RNN(D, H, batch_first=True)``, with
``activation=relu`` for ``nonlinearity="relu"``; ``GRUCell(H)`` and ``LSTMCell(H)`` likewise; ``Bidirectional(cell)``
for ``bidirectional=True``; a ``Sequential`` of these for ``num_layers`` above 1, also with ``Dropout`` between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.activations import relu, tanh
from fnnet.layers import Bidirectional, Dropout, Recurrent, Sequential, children
from fnnet.layers.cells import GRUCell, LSTMCell, RNNCell
from fnnet.layers.nesting import child_params
from fnnet.types import Array, Layer, Params

KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
GATES: dict[type, int] = {RNNCell: 1, GRUCell: 3, LSTMCell: 4}


def from_torch(model: Layer, weights: Any) -> Params:
    """Return the parameters of ``model`` from the weights of an ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM``.

    Biases that the module does not have (``bias=False``) are 0. The function is linear in the weights, so that
    ``jax.linear_transpose`` of it maps gradients with respect to the parameters to those with respect to PyTorch's
    weights. Weights that are missing, unknown or of another shape raise, and the message names them.
    """
    place = "exchange.from_torch"
    layers = recurrent_layers(place, model)
    arrays = arrays_of(place, weights)
    known = {
        f"{kind}_l{k}{direction}"
        for k, layer in enumerate(layers)
        for direction, _ in directions(layer).values()
        for kind in (KINDS if any(name.startswith("bias_") for name in arrays) else KINDS[:2])
    }
    lacking, unknown = sorted(known - arrays.keys()), sorted(arrays.keys() - known)
    checks.require(
        not lacking and not unknown,
        f"{place}: the weights lack {lacking} and have {unknown} beyond those of {model!r}; expected the state_dict of "
        f"a module with the same layers and directions",
    )

    def of_layer(k: int, layer: Layer) -> Params:
        each = {
            name: cell_from_torch(place, cell, f"_l{k}{direction}", arrays)
            for name, (direction, cell) in directions(layer).items()
        }
        return each if isinstance(layer, Bidirectional) else each["forward"]

    return model_params(model, iter([of_layer(k, layer) for k, layer in enumerate(layers)]))


def arrays_of(place: str, weights: Any) -> dict[str, Array]:
    """Return the arrays of a module of PyTorch, or of a mapping from names to arrays or tensors."""
    named = weights.state_dict() if hasattr(weights, "state_dict") else weights
    if not isinstance(named, Mapping):
        raise TypeError(f"{place}: weights is {weights!r}; expected a module of PyTorch or its state_dict")
    arrays = {name: a.detach().cpu().numpy() if hasattr(a, "detach") else a for name, a in named.items()}
    for name, a in arrays.items():
        if not (isinstance(a, (np.ndarray, jax.Array)) and jnp.issubdtype(a.dtype, jnp.floating)):
            raise TypeError(f"{place}: {name} is {a!r}; expected an array of floating point")
    return {name: jnp.asarray(a) for name, a in arrays.items()}


def to_torch(model: Layer, params: Params) -> dict[str, Array]:
    """Return the weights of PyTorch's module, by name, from the parameters of ``model``: undo ``from_torch``.

    Where PyTorch uses only the sum of two biases, ``bias_ih`` is the sum and ``bias_hh`` is 0.
    """
    weights: dict[str, Array] = {}
    layers = recurrent_layers("exchange.to_torch", model)
    for k, (layer, p) in enumerate(zip(layers, layer_params(model, params), strict=True)):
        for name, (direction, cell) in directions(layer).items():
            own = p[name] if isinstance(layer, Bidirectional) else p
            kinds = dict(zip(KINDS, cell_to_torch(cell, own), strict=True))
            weights |= {f"{kind}_l{k}{direction}": array for kind, array in kinds.items()}
    return weights


def cell_from_torch(place: str, cell: Any, suffix: str, arrays: Mapping[str, Array]) -> Params:
    """Return the parameters of one cell."""
    rows = GATES[type(cell)] * cell.features
    w_ih = arrays[f"weight_ih{suffix}"]
    shapes: dict[str, tuple[int, ...]] = {
        "weight_ih": (rows, w_ih.shape[-1] if w_ih.ndim else 0),
        "weight_hh": (rows, cell.features),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
    }
    for kind, shape in shapes.items():
        name = f"{kind}{suffix}"
        found = arrays[name].shape if name in arrays else shape
        checks.require(found == shape, f"{place}: {name} has shape {found}; expected {shape} for {cell!r}")
    none = jnp.zeros(rows, w_ih.dtype)
    b_ih, b_hh = (arrays.get(f"{kind}{suffix}", none) for kind in KINDS[2:])
    params = {"w_x": w_ih.T, "w_h": arrays[f"weight_hh{suffix}"].T}
    if not isinstance(cell, GRUCell):
        return params | {"b": b_ih + b_hh}
    gates, candidate = jnp.split(b_hh, [2 * cell.features])
    return params | {"b": b_ih + jnp.pad(gates, (0, cell.features)), "b_h": candidate}


def cell_to_torch(cell: Any, params: Params) -> tuple[Array, ...]:
    """Return the arrays of one cell, in the order of ``KINDS``."""
    b = params["b"]
    b_hh = jnp.pad(params["b_h"], (2 * cell.features, 0)) if isinstance(cell, GRUCell) else jnp.zeros_like(b)
    return params["w_x"].T, params["w_h"].T, b, b_hh


def recurrent_layers(place: str, model: Layer) -> list[Any]:
    """Return the layers of a model that have weights in PyTorch's module, from the first to the last."""
    layers = layers_in(place, model)
    different = dict.fromkeys(
        (len(directions(layer)), type(cell), cell.features, getattr(cell, "activation", tanh))
        for layer in layers
        for _, cell in directions(layer).values()
    )
    if len(different) > 1:
        raise TypeError(
            f"{place}: PyTorch has no {model!r}, whose layers or directions differ; expected cells of one type, width "
            f"and activation, and the same number of directions in every layer: convert such layers one by one"
        )
    return layers


def layers_in(place: str, model: Any) -> list[Any]:
    """Return the recurrent layers of a model in their order, or raise for a layer that PyTorch has no match for."""
    if is_container(model):
        return [layer for _, child in children(model) for layer in layers_in(place, child)]
    if isinstance(model, Dropout):
        return []
    if not isinstance(model, Recurrent | Bidirectional):
        raise TypeError(
            f"{place}: the model has {model!r}; expected Recurrent, Bidirectional or a Sequential of them and Dropout: "
            f"convert the recurrent part of a model by itself"
        )
    if isinstance(model, Recurrent) and model.reverse:
        raise TypeError(
            f"{place}: PyTorch has no {model!r}, which runs only backwards in time; use Bidirectional, or leave out "
            f"reverse=True"
        )
    for _, cell in directions(model).values():
        if isinstance(cell, RNNCell) and cell.activation not in (tanh, relu):
            raise TypeError(f"{place}: PyTorch has no {cell!r}; expected the activation fnnet.tanh or fnnet.relu")
        if type(cell) not in GATES or (isinstance(cell, GRUCell) and not cell.reset_after):
            raise TypeError(
                f"{place}: PyTorch has no {cell!r}; expected an RNNCell, LSTMCell or GRUCell(reset_after=True)"
            )
    return [model]


def is_container(model: Layer) -> bool:
    """Return whether a layer only passes its input through its children, as ``Sequential`` or a wrapper of one does."""
    return isinstance(model, Sequential) or [name for name, _ in children(model)] == [""]


def directions(layer: Any) -> dict[str, tuple[str, Any]]:
    """Return PyTorch's suffix and the cell for each direction, by its name in fnnet."""
    if isinstance(layer, Bidirectional):
        return {"forward": ("", layer.cell), "backward": ("_reverse", layer.other or layer.cell)}
    return {"forward": ("", layer.cell)}


def model_params(model: Any, of_layers: Iterator[Params]) -> Params:
    """Return the parameters of a model from those of its recurrent layers, in their order."""
    if isinstance(model, Sequential):
        return tuple(model_params(layer, of_layers) for layer in model.layers)
    if is_container(model):
        ((_, child),) = children(model)
        return model_params(child, of_layers)
    return {} if isinstance(model, Dropout) else next(of_layers)


def layer_params(model: Any, params: Params) -> list[Params]:
    """Return the parameters of the recurrent layers of a model: the inverse of ``model_params``."""
    if isinstance(model, Sequential):
        model.check(params)
    if is_container(model):
        inner = [(child, child_params(params, name)) for name, child in children(model)]
        return [own for child, p in inner for own in layer_params(child, p)]
    return [] if isinstance(model, Dropout) else [params]
