"""What a run is made of, and changes of one thing in it.

A change is data, ``Change("learning_rate", "scale", 0.1)``, so that a report can hold it, show it as the corrected line
of code, and apply it: ``apply(change, setup)`` returns the setup with that one thing changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks, initializers
from fnnet.activations import identity
from fnnet.binding import name_of
from fnnet.configuration import configuration
from fnnet.cost import Cost
from fnnet.data.augment import Augmentation
from fnnet.layers import Activation, Conv, Dense, Dropout, Recurrent, Sequential
from fnnet.layers.nesting import children, nested
from fnnet.optimizers import Optimizer, clip_by_global_norm
from fnnet.optimizers.base import kind_of
from fnnet.optimizers.leaves import multiplied
from fnnet.paths import is_weight, map_named, named_leaves
from fnnet.training.fit import FitResult, fit
from fnnet.training.state import TrainState
from fnnet.types import Array, Batch, Layer, Params, Penalty, Scalar

MODEL_KEY = 3  # folded into the key of a run to draw parameters; fnnet.training uses 0 to 2
ROUNDING = 1e-6  # a deviation below this share of the mean is that of a constant in float32
IDENTITY: Layer = Activation(identity)


@dataclass(frozen=True)
class Setup:
    """Everything that a run of ``fit`` is made of; the names are those of the arguments of ``fit``.

    ``params`` are those at the start. ``data`` and ``validation`` are pairs of arrays ``(x, y)``.
    """

    cost: Cost
    optimizer: Optimizer
    params: Params
    data: Batch
    key: Array
    validation: Batch | None = None
    batch_size: int = 32
    epochs: int = 10
    augment: Augmentation | None = None
    shuffle: bool = True

    @property
    def steps(self) -> int:
        """The number of updates of the whole run."""
        return self.epochs * self.steps_of_epoch

    @property
    def steps_of_epoch(self) -> int:
        return -(-len(self.data[0]) // self.batch_size)

    def start(self) -> TrainState:
        """Return the state before the first update."""
        return TrainState.create(self.params, self.optimizer, self.key)

    def fit(self, **options: Any) -> FitResult:
        """Run ``fnnet.fit``; ``options`` are more of its arguments, such as ``callbacks``."""
        return fit(
            self.cost,
            self.optimizer,
            self.params,
            self.data,
            key=self.key,
            epochs=self.epochs,
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            validation=self.validation,
            augment=self.augment,
            **options,
        )


@dataclass(frozen=True)
class Change:
    """One change of a setup: ``action`` on ``target``, with a ``value`` where the action needs one.

    ``ACTIONS`` lists the pairs of target and action. The target of a layer is ``"model."`` and its path, as in
    ``Change("model.2.layer", "replace", Dense(8))``. ``str(change)`` is the corrected line of code.
    """

    target: str
    action: str
    value: Any = None

    def __post_init__(self) -> None:
        found = (self.kind, self.action) in ACTIONS
        known = ", ".join(f"({target!r}, {action!r})" for target, action in ACTIONS)
        checks.require(found, f"Change: there is no action {self.action!r} on {self.target!r}; expected one of {known}")

    @property
    def kind(self) -> str:
        """The target without the path of a layer."""
        return "model." if self.target.startswith("model.") else self.target

    @property
    def path(self) -> str:
        """The path of the layer that is changed, ``""`` if the change is not of a layer."""
        return self.target.removeprefix("model.") if self.kind == "model." else ""

    @property
    def is_number(self) -> bool:
        """Whether the change is a factor of something in a program, so that many of them are one program."""
        return self.action == "scale" and self.target in ("learning_rate", "penalty", "params")

    def __str__(self) -> str:
        return ACTIONS[self.kind, self.action].line(self)


def apply(change: Change, setup: Setup) -> Setup:
    """Return the setup with one thing changed; all others are the same objects."""
    return ACTIONS[change.kind, change.action].apply(change, setup)


def scaled_updates(optimizer: Optimizer, factor: Scalar) -> Optimizer:
    """Return the same optimizer with its updates times ``factor``, which is the same as its learning rate times that.

    The state is that of ``optimizer``, so that a run goes on with it. The factor may be a traced number, and the
    optimizer may be that of another library. Decay that is part of the updates is scaled with them.
    """
    kind = kind_of("changes.scaled_updates", optimizer)

    def update(grads: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        updates, state = optimizer.update(grads, state, params)
        return jax.tree.map(lambda u: multiplied(u, factor), updates), state

    return Optimizer(optimizer.init, update, kind)


def clipped_gradients(optimizer: Optimizer, bound: Scalar) -> Optimizer:
    """Return ``chain(clip_by_global_norm(bound), optimizer)`` with the state of ``optimizer``."""
    kind = kind_of("changes.clipped_gradients", optimizer)
    clip = clip_by_global_norm(bound)

    def update(grads: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        grads, _ = clip.update(grads, clip.init(params))
        return optimizer.update(grads, state, params)

    return Optimizer(optimizer.init, update, kind)


@configuration
class ScaledPenalty:
    """The penalty ``factor · penalty(params)``; the factor may be a traced number."""

    penalty: Penalty
    factor: Scalar

    def __call__(self, params: Params) -> Array:
        value = self.penalty(params)
        return value * checks.in_dtype(self.factor, value.dtype)


def scaled_weights(params: Params, factor: Scalar) -> Params:
    """Return the parameters with the weights, and not the biases, times ``factor``."""
    return jax.tree.map(lambda p: multiplied(p, factor) if is_weight(p) else p, params)


def drawn_weights(params: Params, key: Array, initializer: Any = initializers.he_normal) -> Params:
    """Return parameters with weights drawn by ``initializer`` and biases of 0; arrays that start at 1 stay as they are.

    The names of the biases are those of fnnet's layers: they begin with ``b``.
    """
    leaves = iter(jax.random.split(key, max(1, len(jax.tree.leaves(params)))))

    def draw(name: str, p: Array) -> Array:
        own = next(leaves)
        if is_weight(p):
            return initializer(own, p.shape, p.dtype)
        return jnp.zeros_like(p) if name.split(".")[-1].startswith("b") else p

    return map_named(draw, params)


# The layers of a model.


def layer_at(model: Layer, path: str) -> Layer:
    """Return the layer at a path such as ``"2.layer.0"``; the path of the model itself is ``""``."""
    if not path:
        return model
    name, _, rest = path.partition(".")
    for own, child in children(model):
        if own == "":
            return layer_at(child, path)
        if own == name:
            return layer_at(child, rest)
    raise KeyError(f"changes: {model!r} has no layer {path!r}; it has {[own for own, _ in children(model)]}")


def with_layer(model: Layer, path: str, new: Layer | None, *, insert: bool = False) -> Layer:
    """Return the model with ``new`` in place of the layer at ``path``, or before it with ``insert``.

    Without ``new`` the layer is removed; outside a ``Sequential`` an identity takes its place.
    """
    if not path:
        return Sequential((new or IDENTITY, model)) if insert else (new or IDENTITY)
    name, _, rest = path.partition(".")
    if isinstance(model, Sequential):
        i = int(name)
        if rest:
            inner: tuple[Layer, ...] = (with_layer(model.layers[i], rest, new, insert=insert),)
        else:
            inner = (*(() if new is None else (new,)), *(model.layers[i : i + 1] if insert else ()))
        return Sequential((*model.layers[:i], *inner, *model.layers[i + 1 :]))
    layer_at(model, path)  # raises for a name that is not there
    own, child = next((own, child) for own, child in children(model) if own in ("", name))
    changed = with_layer(child, path if own == "" else rest, new, insert=insert)
    model_of_fields: Any = model
    field = own or next(f.name for f in fields(model_of_fields) if getattr(model, f.name) is child)
    return replace(model_of_fields, **{field: changed})


def with_layers(model: Layer, change: Callable[[str, Layer], Layer]) -> Layer:
    """Return the model with ``change(path, layer)`` in place of every layer that has no layers inside."""
    for path, layer in nested(model):
        if not children(layer):
            new = change(path, layer)
            model = model if new is layer else with_layer(model, path, new)
    return model


def with_model(setup: Setup, model: Layer, old_name: Callable[[str], str | None] = lambda name: name) -> Setup:
    """Return the setup with another model, whose parameters are those of the setup where they fit, else new ones.

    ``old_name(name)`` is the name that a parameter of the changed model has in the setup, or None if it is new.
    """
    old = dict(named_leaves(setup.params))
    fresh = model.init(jax.random.fold_in(setup.key, MODEL_KEY), jnp.asarray(setup.data[0][:1]))

    def choose(name: str, new: Array) -> Array:
        there = old.get(old_name(name) or "")
        return new if there is None or there.shape != new.shape else there

    return replace(setup, cost=replace(setup.cost, model=model), params=map_named(choose, fresh))


def old_names(path: str, action: str) -> Callable[[str], str | None]:
    """Return the function from the names of parameters after a change of the layer at ``path`` to those before it."""
    parent, _, own = path.rpartition(".")
    start = f"{parent}." if parent else ""

    def old_name(name: str) -> str | None:
        place, dot, rest = name.removeprefix(start).partition(".")
        if not name.startswith(start):
            return name
        if not own.isdigit() or action == "replace":
            return None if place == own else name
        shift = {"remove": 1, "insert": -1}[action]
        if int(place) < int(own):
            return name
        return None if action == "insert" and place == own else f"{start}{int(place) + shift}{dot}{rest}"

    return old_name


# The actions, one function for each.


def scale_rate(change: Change, setup: Setup) -> Setup:
    return replace(setup, optimizer=scaled_updates(setup.optimizer, change.value))


def replace_optimizer(change: Change, setup: Setup) -> Setup:
    return replace(setup, optimizer=change.value)


def clip_gradients(change: Change, setup: Setup) -> Setup:
    return replace(setup, optimizer=clipped_gradients(setup.optimizer, change.value))


def scale_penalty(change: Change, setup: Setup) -> Setup:
    penalty = setup.cost.penalty
    if penalty is None:
        return setup
    return replace(setup, cost=replace(setup.cost, penalty=ScaledPenalty(penalty, change.value)))


def replace_penalty(change: Change, setup: Setup) -> Setup:
    return replace(setup, cost=replace(setup.cost, penalty=change.value))


def replace_loss(change: Change, setup: Setup) -> Setup:
    return replace(setup, cost=replace(setup.cost, loss=change.value))


def scale_params(change: Change, setup: Setup) -> Setup:
    return replace(setup, params=scaled_weights(setup.params, change.value))


def draw_params(change: Change, setup: Setup) -> Setup:
    key = jax.random.fold_in(setup.key, MODEL_KEY)
    return replace(setup, params=drawn_weights(setup.params, key, change.value or initializers.he_normal))


def cast_params(change: Change, setup: Setup) -> Setup:
    """Return the setup with parameters and data of another floating-point dtype."""
    params, data, validation = jax.tree.map(
        lambda a: jnp.asarray(a).astype(change.value) if checks.is_float(a) else a,
        (setup.params, setup.data, setup.validation),
    )
    return replace(setup, params=params, data=data, validation=validation)


def standardize_inputs(change: Change, setup: Setup) -> Setup:
    """Return the setup with features of mean 0 and variance 1 in the training data; constant ones become 0."""
    return standardized(setup, 0)


def standardize_targets(change: Change, setup: Setup) -> Setup:
    return standardized(setup, 1)


def standardized(setup: Setup, part: int) -> Setup:
    """Return the setup with the inputs (part 0) or targets (part 1) standardized by the moments of the training data.

    The moments are those of each entry of the last axis.
    """
    values = np.asarray(setup.data[part])
    checks.require(
        checks.is_float(values), f"changes: {'xy'[part]} has dtype {values.dtype}; only real numbers have a scale"
    )
    wide = values.astype(np.float64)
    axes = tuple(range(values.ndim - 1)) or None
    mean, deviation = wide.mean(axes), wide.std(axes)
    deviation = np.where(deviation > ROUNDING * np.abs(mean), deviation, 1)

    def scaled(data: Batch | None) -> Batch | None:
        if data is None:
            return None
        new = list(data)
        new[part] = ((np.asarray(data[part], np.float64) - mean) / deviation).astype(values.dtype)
        return new[0], new[1]

    data = scaled(setup.data)
    assert data is not None
    return replace(setup, data=data, validation=scaled(setup.validation))


def replace_data(change: Change, setup: Setup) -> Setup:
    return replace(setup, data=change.value)


def replace_validation(change: Change, setup: Setup) -> Setup:
    return replace(setup, validation=change.value)


def change_layer(change: Change, setup: Setup) -> Setup:
    """Return the setup with one layer removed, replaced, or another one inserted before it."""
    model = with_layer(setup.cost.model, change.path, change.value, insert=change.action == "insert")
    return with_model(setup, model, old_names(change.path, change.action))


def replace_model(change: Change, setup: Setup) -> Setup:
    return with_model(setup, change.value, lambda name: None)


def widen_model(change: Change, setup: Setup) -> Setup:
    """Return the setup with every layer but the last one as many times as wide, and parameters drawn anew."""
    layers = [path for path, layer in nested(setup.cost.model) if features_of(layer)]

    def wider(path: str, layer: Layer) -> Layer:
        features = features_of(layer)
        if not features or path == layers[-1]:
            return layer
        wide = max(1, round(features * change.value))
        any_layer: Any = layer
        if isinstance(layer, Recurrent):
            return replace(any_layer, cell=replace(any_layer.cell, features=wide))
        return replace(any_layer, features=wide)

    return with_model(setup, with_layers(setup.cost.model, wider), lambda name: None)


def features_of(layer: Layer) -> int:
    """Return the number of output features that a layer was given, 0 if it was given none."""
    owner = layer.cell if isinstance(layer, Recurrent) else layer
    return getattr(owner, "features", 0) if isinstance(layer, (Dense, Conv, Recurrent)) else 0


def set_dropout(change: Change, setup: Setup) -> Setup:
    """Return the setup with this rate in every ``Dropout``; a model without any gets one before its last layer."""
    model = setup.cost.model
    dropouts = [path for path, layer in nested(model) if isinstance(layer, Dropout)]
    if dropouts:
        new = Dropout(change.value)
        return with_model(setup, with_layers(model, lambda path, layer: new if path in dropouts else layer))
    last = max((int(name.split(".")[0]) for name, _ in named_leaves(setup.params)), default=0)
    return change_layer(Change(f"model.{last}", "insert", Dropout(change.value)), setup)


def set_number(change: Change, setup: Setup) -> Setup:
    """Return the setup with another value of ``epochs``, ``batch_size`` or ``shuffle``."""
    changes: dict[str, Any] = {change.target: change.value}
    return replace(setup, **changes)


def scale_number(change: Change, setup: Setup) -> Setup:
    most = len(setup.data[0]) if change.target == "batch_size" else math.inf
    old = getattr(setup, change.target)
    number = max(1, min(round(old * change.value), most))
    if change.value > 1:  # of one epoch, too
        number = max(number, min(old + 1, most))
    return set_number(Change(change.target, "set", int(number)), setup)


def remove_augment(change: Change, setup: Setup) -> Setup:
    return replace(setup, augment=None)


def fold_key(change: Change, setup: Setup) -> Setup:
    return replace(setup, key=jax.random.fold_in(setup.key, change.value))


class Action(NamedTuple):
    """``apply(change, setup)`` makes the change, ``line(change)`` is the corrected line of code."""

    apply: Callable[[Change, Setup], Setup]
    line: Callable[[Change], str]


def shown(value: Any) -> str:
    """Return a value of a change as it would be written."""
    if isinstance(value, (bool, int, float, str)):
        return f"{value:g}" if isinstance(value, float) else repr(value)
    if isinstance(value, Optimizer):
        return getattr(value.update, "__qualname__", "optimizer").split(".")[0]
    return repr(value) if is_dataclass(value) else name_of(value)


def line(text: str) -> Callable[[Change], str]:
    """Return the function that writes the value and the path of a change into a line of code."""
    return lambda change: text.format(value=shown(change.value), path=change.path, target=change.target)


ACTIONS: dict[tuple[str, str], Action] = {
    ("learning_rate", "scale"): Action(scale_rate, line("learning_rate = {value} * learning_rate")),
    ("optimizer", "replace"): Action(replace_optimizer, line("optimizer = {value}")),
    ("gradients", "clip"): Action(clip_gradients, line("optimizer = chain(clip_by_global_norm({value}), optimizer)")),
    ("penalty", "scale"): Action(scale_penalty, line("strength = {value} * strength")),
    ("penalty", "replace"): Action(replace_penalty, line("cost = Cost(model, loss, {value})")),
    ("loss", "replace"): Action(replace_loss, line("cost = Cost(model, losses.{value})")),
    ("params", "scale"): Action(scale_params, line("params = {value} * params  # the weights")),
    ("params", "draw"): Action(draw_params, lambda change: f"w_init = {shown(change.value or initializers.he_normal)}"),
    ("params", "cast"): Action(cast_params, line("x, params = x.astype({value}), params.astype({value})")),
    ("inputs", "standardize"): Action(standardize_inputs, line("x = (x - x.mean(0)) / x.std(0)")),
    ("targets", "standardize"): Action(standardize_targets, line("y = (y - y.mean(0)) / y.std(0)")),
    ("data", "replace"): Action(replace_data, lambda change: "data = (x, y)  # other examples"),
    ("validation", "replace"): Action(replace_validation, lambda change: "validation = (x, y)  # other examples"),
    ("model.", "remove"): Action(change_layer, line("del layers[{path}]")),
    ("model.", "insert"): Action(change_layer, line("layers.insert({path}, {value})")),
    ("model.", "replace"): Action(change_layer, line("layers[{path}] = {value}")),
    ("model", "replace"): Action(replace_model, line("model = {value}")),
    ("model", "widen"): Action(widen_model, line("features = {value} * features  # of the hidden layers")),
    ("dropout", "set"): Action(set_dropout, line("Dropout({value})")),
    ("epochs", "set"): Action(set_number, line("epochs = {value}")),
    ("epochs", "scale"): Action(scale_number, line("epochs = {value} * epochs")),
    ("batch_size", "set"): Action(set_number, line("batch_size = {value}")),
    ("batch_size", "scale"): Action(scale_number, line("batch_size = {value} * batch_size")),
    ("shuffle", "set"): Action(set_number, line("shuffle = {value}")),
    ("key", "fold"): Action(fold_key, line("key = jax.random.fold_in(key, {value})")),
    ("augment", "remove"): Action(remove_augment, line("augment = None")),
}
