"""Faults of the output, the loss and the structure of the network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnnet
from experiments.faults.bases import mlp
from experiments.faults.fault import Fault, changed, fault
from fnnet import Activation, Dense, Sequential, losses
from fnnet.configuration import configuration
from fnnet.diagnosis import Change, Setup
from fnnet.diagnosis.changes import with_model
from fnnet.layers.nesting import nested
from fnnet.types import Array, Params, Shaped

CLASSIFIERS = "moons; digits; wine; images"
REGRESSIONS = "diabetes; friedman"


def layers_of(setup: Setup) -> tuple[Any, ...]:
    model: Any = setup.cost.model
    return model.layers


def with_new_model(setup: Setup, model: Any) -> Setup:
    """Return the setup with another model, all of whose parameters are drawn anew."""
    return changed(setup, Change("model", "replace", model))


def with_end(setup: Setup, function: Any) -> Setup:
    """Return the setup with an activation after the last layer."""
    return with_model(setup, Sequential((*layers_of(setup), Activation(function))))


def softmax_at_the_end(setup: Setup, hidden: bool) -> Setup:
    return with_end(setup, fnnet.softmax)


def sigmoid_at_the_end(setup: Setup, scale: float) -> Setup:
    return with_end(setup, fnnet.sigmoid)


def tanh_at_the_end(setup: Setup, scale: float) -> Setup:
    return with_end(setup, fnnet.tanh)


def relu_at_the_end(setup: Setup, scale: float) -> Setup:
    return with_end(setup, fnnet.relu)


def softmax_over_one_unit(setup: Setup, loss: str) -> Setup:
    """Return the setup of two classes with a softmax over its single output, which is always 1."""
    chosen = {"binary": losses.binary_cross_entropy, "squared": losses.squared_error}[loss]
    return changed(with_end(setup, fnnet.softmax), Change("loss", "replace", chosen))


def bounded_regression(setup: Setup, end: str) -> Setup:
    return with_end(setup, {"tanh": fnnet.tanh, "relu": fnnet.relu}[end])


def squared_error_of_probabilities(setup: Setup, weights: float) -> Setup:
    """Return the setup of classes with the squared error of its probabilities; the last weights are ``weights`` times
    as large, so that some outputs are certain and wrong."""
    outputs = fnnet.softmax if checks_classes(setup) else fnnet.sigmoid
    setup = changed(with_end(one_hot(setup), outputs), Change("loss", "replace", losses.squared_error))
    last = max(i for i, params in enumerate(setup.params) if params)
    params = list(setup.params)
    params[last] = {name: p * weights for name, p in params[last].items()}
    return replace(setup, params=tuple(params))


def checks_classes(setup: Setup) -> bool:
    return np.asarray(setup.data[1]).dtype.kind in "iu"


def one_hot(setup: Setup) -> Setup:
    """Return the setup with its labels as rows of 0 and 1, if it has labels."""
    if not checks_classes(setup):
        return setup
    classes = int(setup.data[1].max()) + 1
    data, validation = (
        None if pair is None else (pair[0], np.eye(classes, dtype=np.float32)[np.asarray(pair[1])])
        for pair in (setup.data, setup.validation)
    )
    assert data is not None
    return replace(setup, data=data, validation=validation)


def loss_of_the_other_kind(setup: Setup, kind: str) -> Setup:
    """Return a regression with the cross-entropy of classes or of yes and no, or a classifier with that of one-hot."""
    chosen = {"yes and no": losses.sigmoid_cross_entropy, "probabilities": losses.binary_cross_entropy}[kind]
    return changed(setup, Change("loss", "replace", chosen))


@configuration
class Times:
    """A loss times a factor."""

    loss: Any
    factor: float

    def __call__(self, prediction: Array, target: Array) -> Array:
        return self.factor * self.loss(prediction, target)


def sum_over_the_batch(setup: Setup, share: float) -> Setup:
    """Return the setup with the sum of the losses of a batch, or a share of it, in place of their mean."""
    return changed(setup, Change("loss", "replace", Times(setup.cost.loss, share * setup.batch_size)))


def wrong_sign(setup: Setup, factor: float) -> Setup:
    return changed(setup, Change("loss", "replace", Times(setup.cost.loss, factor)))


def softmax_over_the_batch(setup: Setup, loss: str) -> Setup:
    """Return the setup with a softmax over the examples in place of the classes."""
    setup = with_end(setup, fnnet.bind(fnnet.softmax, axis=0))
    return setup if loss == "of logits" else changed(setup, Change("loss", "replace", losses.cross_entropy))


def activations(setup: Setup) -> list[str]:
    return [path for path, layer in nested(setup.cost.model) if isinstance(layer, Activation)]


def without_activations(setup: Setup, everywhere: bool) -> Setup:
    chosen = activations(setup) if everywhere else activations(setup)[:1]
    return changed(setup, *(Change(f"model.{path}", "remove") for path in reversed(chosen)))


def softmax_inside(setup: Setup, everywhere: bool) -> Setup:
    chosen = activations(setup) if everywhere else activations(setup)[-1:]
    return changed(setup, *(Change(f"model.{path}", "replace", Activation(fnnet.softmax)) for path in chosen))


def outputs_of(setup: Setup) -> int:
    return next(layer.features for layer in reversed(layers_of(setup)) if isinstance(layer, Dense))


def deep_sigmoid(setup: Setup, depth: int) -> Setup:
    """Return the setup with a network of sigmoids of this depth."""
    return with_new_model(setup, mlp(*[32] * (depth - 1), outputs_of(setup), activation=fnnet.sigmoid))


@configuration
class Forgetful(Dense):
    """A dense layer with a parameter ``gain`` that it forgets to use."""

    def init(self, key: Array, x: Shaped) -> Params:
        return super().init(key, x) | {"gain": jnp.ones((x.shape[-1], self.features))}

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        used = {name: p for name, p in params.items() if name != "gain"}
        return super().apply(used, x, key=key, train=train)


def unused_parameter(setup: Setup, place: str) -> Setup:
    layers = list(layers_of(setup))
    dense = [i for i, layer in enumerate(layers) if isinstance(layer, Dense)]
    i = dense[0 if place == "first" else -1]
    layers[i] = Forgetful(layers[i].features)
    return with_new_model(setup, Sequential(tuple(layers)))


def detached(setup: Setup, place: str) -> Setup:
    """Return the setup with a ``stop_gradient`` after the first layer, or before the last one."""
    i = 1 if place == "first" else max(i for i, params in enumerate(setup.params) if params)
    return changed(setup, Change(f"model.{i}", "insert", Activation(jax.lax.stop_gradient)))


def narrow(setup: Setup, width: int) -> Setup:
    """Return the setup with hidden layers of this width, of which 0 means that there are none."""
    hidden = [width, width] if width else []
    return with_new_model(setup, mlp(*hidden, outputs_of(setup)))


def bottleneck(setup: Setup, place: str) -> Setup:
    """Return the setup with a layer of one unit before the last layer or before the first."""
    layers, at = list(layers_of(setup)), -1 if place == "last" else 0
    layers[at:at] = [Dense(1), Activation(fnnet.relu)]
    return with_new_model(setup, Sequential(tuple(layers)))


def mixed(x: Array) -> Array:
    """Return the numbers of a batch in the order of the features, reshaped as if it were that of the examples."""
    return jnp.reshape(jnp.swapaxes(x, 0, -1), x.shape)


def reshape_across_the_batch(setup: Setup, place: str) -> Setup:
    at = 0 if place == "inputs" else max(i for i, params in enumerate(setup.params) if params)
    return changed(setup, Change(f"model.{at}", "insert", Activation(mixed)))


def without_causal_mask(setup: Setup, everywhere: bool) -> Setup:
    from experiments.faults.bases import characters_attention

    return with_new_model(setup, characters_attention(causal=False))


FAULTS: tuple[Fault, ...] = (
    fault("F1 softmax before softmax cross-entropy", softmax_at_the_end, False, True, (1,), CLASSIFIERS, certain=True),
    fault("F2 sigmoid before softmax cross-entropy", sigmoid_at_the_end, 1.0, 1.0, (1,), CLASSIFIERS, certain=True),
    fault("F3 tanh before softmax cross-entropy", tanh_at_the_end, 1.0, 1.0, (1,), CLASSIFIERS, certain=True),
    fault("F4 sigmoid before sigmoid cross-entropy", sigmoid_at_the_end, 1.0, 1.0, (1,), "cancer", certain=True),
    fault("F5 ReLU on logits", relu_at_the_end, 1.0, 1.0, (1, 28), CLASSIFIERS),
    fault("F6 softmax over one unit", softmax_over_one_unit, "squared", "binary", (1,), "cancer", certain=True),
    fault("F7 bounded output of a regression", bounded_regression, "tanh", "relu", (1,), REGRESSIONS, certain=True),
    fault("F8 squared error of probabilities", squared_error_of_probabilities, 1.0, 10.0, (2,), "digits; wine; cancer"),
    fault(
        "F9 loss of the other kind", loss_of_the_other_kind, "yes and no", "probabilities", (1, 2, 5), REGRESSIONS,
        refused=True, certain=True,
    ),
    fault("F10 sum instead of mean", sum_over_the_batch, 0.5, 1.0, (3, 25, 24, 23), "moons; digits; friedman; images"),
    fault("F11 softmax over the wrong axis", softmax_over_the_batch, "of logits", "of probabilities", (18, 1),
          "digits; wine", certain=True),
    fault("F12 sign flipped", wrong_sign, -0.1, -1.0, (24, 21, 23, 1), "moons; digits; friedman", certain=True),
    fault("F13 activation forgotten", without_activations, False, True, (17, 45), "moons; digits deep; friedman"),
    fault("F14 softmax as a hidden activation", softmax_inside, False, True, (14, 15, 21),
          "digits deep; moons; friedman"),
    fault("F15 sigmoid in a deep network", deep_sigmoid, 5, 8, (14, 15, 30, 21, 36), "digits deep; moons; friedman"),
    fault("F21 parameter unused", unused_parameter, "first", "last", (16,), "digits; friedman", certain=True),
    fault("F22 stop_gradient in the middle", detached, "first", "last", (15, 16, 27), "digits deep; friedman; images",
          certain=True),
    fault("F50 too narrow", narrow, 2, 1, (45, 21, 46, 13, 28), "moons; digits; friedman"),
    fault("F51 bottleneck of one unit", bottleneck, "last", "first", (45, 21, 28, 13), "digits; friedman"),
    fault("F54 reshape across the batch", reshape_across_the_batch, "inputs", "hidden", (18,),
          "digits; friedman; moons", certain=True),
    fault("F54 causal mask missing", without_causal_mask, False, True, (19,), "characters, attention", certain=True),
)  # fmt: skip
