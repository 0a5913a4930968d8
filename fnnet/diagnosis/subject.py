"""What pre-flight looks at: a cost, its parameters and the data, with what several verdicts need, computed once.

Everything is a function of its arguments, so the same start gives the same report.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from itertools import dropwhile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks, optimizers
from fnnet.cost import Cost
from fnnet.diagnosis.programs import compiled
from fnnet.diagnosis.report import NotLookedAt
from fnnet.inspect.baselines import constant_baseline, floor, loss_bounds
from fnnet.inspect.operations import OPERATIONS
from fnnet.inspect.signals import LayerSignals, Taps, leaf_layers, pass_of, signals, signals_of
from fnnet.layers import Activation, Sequential, children
from fnnet.layers.nesting import child_params
from fnnet.norms import norm
from fnnet.optimizers import apply_updates
from fnnet.paths import is_weight, named_leaves
from fnnet.types import Array, Layer, Params, Shape

Numbers = np.ndarray[Any, Any]

PROBE = 512  # examples on which the start is looked at
OUTPUTS = 2**16  # numbers in their predictions, at most
SMALL = 16  # examples of the batch that is to be learned
RATE = 3e-3  # of Adam, which learns it
FIRST_STEPS, MOST_STEPS = 10, 1000
PLAIN = 0.01  # the length of one of the first steps, as a part of the norm of all parameters
LEARNED = 0.02  # λ at which a batch counts as learned


class Bounds(NamedTuple):
    """What the loss can be: for a constant prediction, for any one, and for both through the last activation."""

    constant: float
    least: float
    constant_through: float
    floor: float


class Look(NamedTuple):
    """What the network does on the probe set: signals by layer, prediction, cost, and cost without an offset.

    Of the signals ``saturated`` is NaN: the others are computed by NumPy, so that little is compiled.
    """

    signals: dict[str, LayerSignals]
    prediction: Any
    loss: Any
    centered_loss: Any


class Seen(NamedTuple):
    """What the network does with a small batch: its prediction, what goes into the last activation, and the cost."""

    prediction: Numbers
    body: Numbers
    loss: float


class OneBatch(NamedTuple):
    """A small batch: the parameters after a few plain steps, and λ and the number of steps when Adam has learned it."""

    early: Params
    end: float
    steps: int


@dataclass(frozen=True)
class Subject:
    """The start of a run.

    ``x``, ``y`` and ``weights`` are the training data in the memory of the host, a batch of them if the data are a
    stream, for which ``whole`` is False. ``shuffled`` tells whether the run shuffles them.
    """

    cost: Cost
    params: Params
    x: Numbers
    y: Numbers
    weights: Numbers | None
    validation: tuple[Numbers, Numbers] | None
    optimizer: Any
    key: Array
    shuffled: bool = True
    whole: bool = True

    # The data.

    @cached_property
    def classes(self) -> Numbers | None:
        """The labels ``(N,)`` of classes, None if the targets are other numbers.

        They are integers with one axis less than the prediction, or targets of its shape that are all 0 and 1, or −1
        and 1. One-hot targets become their labels. Labels of sequences and images are those of all positions.
        """
        y = self.y
        if not checks.is_float(y) and y.ndim < len(self.shapes_of(2)[0]):
            labels = y.reshape(-1).astype(np.int64)
            return labels if self.cost.ignore_label is None else labels[labels != self.cost.ignore_label]
        if not (np.isin(y, (0, 1)).all() or np.isin(y, (-1, 1)).all()):
            return None
        one_hot = y.ndim > 1 and y.shape[-1] > 1 and bool((y.sum(-1) == 1).all())
        return y.argmax(-1).reshape(-1) if one_hot else y.reshape(-1).astype(np.int64)

    @cached_property
    def table(self) -> Numbers:
        """The features of at most 4096 examples spread over the data, ``(n, D)`` in float64.

        Features are the columns of a table, and the last axis of sequences and images.
        """
        if not checks.is_float(self.x):
            raise NotLookedAt("the inputs are integers, which have no scale; features must be real numbers")
        rows = self.x[spread(len(self.x), 4096)]
        return np.asarray(rows.reshape(-1, rows.shape[-1] if rows.ndim > 1 else 1), np.float64)

    # The probe set.

    @cached_property
    def rows(self) -> Numbers:
        """The examples of the probe set, spread over the data, because these may be sorted."""
        size = max(math.prod(shape[1:]) for shape in self.shapes_of(2))
        return spread(len(self.x), max(2 * SMALL, min(PROBE, OUTPUTS // max(1, size))))

    def part(self, rows: Numbers) -> tuple[Array, ...]:
        """Return a batch of these examples with weights, so that every batch has three arrays."""
        weights = np.ones(len(rows), np.float32) if self.weights is None else self.weights[rows]
        return jnp.asarray(self.x[rows]), jnp.asarray(self.y[rows]), jnp.asarray(weights)

    @cached_property
    def probe(self) -> tuple[Array, ...]:
        return self.part(self.rows)

    @cached_property
    def small(self) -> Numbers:
        """The places in the probe set of at most 16 examples of different inputs, with as many classes as possible."""
        x, y = self.x[self.rows], self.y[self.rows]
        counted = np.ones(len(x), bool)
        if self.weights is not None:
            counted = (self.weights[self.rows].reshape(len(x), -1) > 0).max(-1)
        _, first = np.unique([hash(row.tobytes()) for row in x], return_index=True)
        places = np.sort(first) if len(first) > 1 else np.arange(len(x))
        places = places[counted[places]]
        seen: dict[bytes, int] = {}
        turns = []
        for label in y[places]:
            turns.append(seen.setdefault(label.tobytes(), 0))
            seen[label.tobytes()] += 1
        if checks.is_float(y) and self.classes is None:
            return places[spread(len(places), SMALL)]
        return places[np.argsort(turns, kind="stable")[:SMALL]]

    # The model.

    @cached_property
    def layers(self) -> dict[str, Layer]:
        return leaf_layers(self.cost.model)

    @cached_property
    def closed(self) -> dict[str, Layer]:
        """The layers that are not fnnet's, and into which nothing can look."""
        return {path: layer for path, layer in self.layers.items() if type(layer) not in OPERATIONS}

    @cached_property
    def tail(self) -> tuple[tuple[str, Layer], ...]:
        """The last activation and what follows it: what the output can express depends on them.

        They are the layers after the last one with parameters, from the first ``Activation`` on.
        """
        tail = list(dropwhile(lambda item: not isinstance(item[1], Activation), tail_of(self.cost.model, self.params)))
        for path, layer in [*list(self.layers.items())[-1:], *tail]:
            if path in self.closed or path not in self.layers:
                raise NotLookedAt(
                    f"the last activation is inside {type(layer).__name__}, whose layers cannot be seen; "
                    f"give it a method children, as fnnet.layers.children expects"
                )
        return tuple(tail)

    @cached_property
    def weight_layers(self) -> tuple[str, ...]:
        """The paths of the trees of parameters with at least one weight, in the order of the forward pass."""
        paths = {name.rpartition(".")[0] for name, leaf in named_leaves(self.params) if is_weight(leaf)}
        order = [path for path in self.layers if path in paths]
        return tuple(order + sorted(paths - set(order)))

    @cached_property
    def hidden(self) -> tuple[str, ...]:
        """The paths of the layers before the last one with weights."""
        paths = list(self.layers)
        last = max((paths.index(path) for path in self.weight_layers if path in paths), default=0)
        return tuple(paths[:last])

    # What is computed on the device.

    @cached_property
    def look(self) -> Look:
        return self.look_at(self.params)

    def look_at(self, params: Params) -> Look:
        found = jax.device_get(compiled(look_of, self.cost)(params, self.probe, self.key, self.is_regression))
        with np.errstate(all="ignore"):
            of_layers = signals_of(self.cost.model, jax.device_get(params), found.signals, np)
        return found._replace(signals=of_layers)

    @cached_property
    def all_signals(self) -> dict[str, LayerSignals]:
        return jax.device_get(compiled(signals, self.cost)(self.params, self.probe, key=self.key))

    @property
    def is_regression(self) -> bool:
        return self.classes is None

    @cached_property
    def visible_tail(self) -> tuple[Layer, ...]:
        try:
            return tuple(layer for _, layer in self.tail)
        except NotLookedAt:
            return ()

    def bounds_for(self, counted: Numbers | None = None) -> Bounds:
        """Return the bounds of the cost on the probe set, or on the examples at these places in it."""
        _, y, weights = self.probe
        if counted is not None:
            mask = np.zeros(len(y), np.float32)
            mask[counted] = 1
            weights = weights * mask.reshape(-1, *[1] * (weights.ndim - 1)).astype(weights.dtype)
        prediction, body = self.shapes_of(len(self.rows))
        program = compiled(all_bounds, self.cost, self.visible_tail, prediction, body)
        constant, least, *through = jax.device_get(program(y, weights))
        bounds = Bounds(float(constant), float(least), *map(float, through or (constant, least)))
        if np.isnan(bounds.constant):
            raise NotLookedAt("the loss of a constant prediction is NaN: a label is out of range, or a target is NaN")
        if bounds.constant == -np.inf and bounds.constant_through > -np.inf:
            # A loss of the user's for outputs in a range: only the last activation tells which.
            return Bounds(bounds.constant_through, bounds.floor, bounds.constant_through, np.nan)
        return bounds

    @cached_property
    def bounds(self) -> Bounds:
        return self.bounds_for()

    @property
    def finite_bounds(self) -> Bounds:
        """The bounds of the cost, or an exception where λ has no meaning."""
        bounds = self.bounds
        if bounds.least == -np.inf:
            raise NotLookedAt("the loss has no least value (−∞ below), so that λ has no scale")
        if not bounds.constant - bounds.least > 1e-6 * max(abs(bounds.constant), 1e-30):
            raise NotLookedAt("a constant prediction is as good as any: the targets are all alike")
        return bounds

    def shapes_of(self, examples: int) -> tuple[Shape, Shape]:
        """Return the shapes of the prediction for this number of examples, and of the input of the last activation."""
        path = self.tail[0][0] if self.visible_tail else None
        x = jax.ShapeDtypeStruct((examples, *self.x.shape[1:]), self.x.dtype)
        prediction, body = jax.eval_shape(partial(prediction_and_body, self.cost.model, path), self.params, x, self.key)
        return prediction.shape, body.shape

    @cached_property
    def one_batch(self) -> OneBatch:
        """The small batch after some steps, and after all of them; a batch that cannot be learned has λ = NaN."""
        x, y, weights = (a[self.small] for a in map(np.asarray, self.probe))
        counted = self.small
        if len(self.shapes_of(2)[0]) > 2:
            # Sequences that begin alike go on in different ways, and no network can know how.
            counted, weights = counted[:1], weights * (np.arange(len(x)) == 0).reshape(-1, *[1] * (weights.ndim - 1))
        batch = x, y, weights.astype(np.float32)
        try:
            bounds = self.bounds_for(counted)
            goal = bounds.least + LEARNED * (bounds.constant - bounds.least)
        except NotLookedAt:
            bounds, goal = None, -np.inf
        state = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), jax.eval_shape(adam_of, self.params))  # as Adam's
        learn = compiled(train, self.cost)
        early, *_ = learn(self.params, state, batch, self.key, -np.inf, FIRST_STEPS, True)
        if not all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(early)):
            early = self.params
        if bounds is None or not np.isfinite(goal) or not bounds.constant > bounds.least:
            return OneBatch(early, np.nan, FIRST_STEPS)
        _, loss, steps = learn(self.params, state, batch, self.key, goal, MOST_STEPS, False)
        end = (float(loss) - bounds.least) / (bounds.constant - bounds.least)
        return OneBatch(early, np.inf if np.isnan(end) else end, int(steps))

    def forward(self, x: Numbers, *, train: bool = False, key: Array | None = None) -> Seen:
        """Return what the network does with inputs in place of those of the small batch, after a few steps.

        Layers that start at zero do not hide there what comes before them.
        """
        path = self.tail[0][0] if self.visible_tail else None
        y = np.asarray(self.probe[1])[self.small]
        key = self.key if key is None else key
        program = compiled(forward_of, self.cost, path, train)
        return Seen(*jax.device_get(program(self.one_batch.early, jnp.asarray(x), y, key)))

    @cached_property
    def small_x(self) -> Numbers:
        return np.asarray(self.probe[0])[self.small]


def spread(examples: int, most: int) -> Numbers:
    """Return at most ``most`` places from 0 to ``examples − 1``, evenly spread."""
    return np.arange(examples) if examples <= most else np.linspace(0, examples - 1, most).astype(int)


def tail_of(model: Layer, params: Params, path: str = "") -> list[tuple[str, Layer]]:
    """Return ``(path, layer)`` of the layers after the last one with parameters, one by one in a ``Sequential``."""
    inner = children(model)
    if isinstance(model, Sequential):
        found: list[tuple[str, Layer]] = []
        for name, child in reversed(inner):
            own = child_params(params, name)
            found = tail_of(child, own, f"{path}.{name}" if path else name) + found
            if jax.tree.leaves(own):
                break
        return found
    if inner and inner[0][0] == "":
        return tail_of(inner[0][1], params, path)
    return [] if jax.tree.leaves(params) else [(path, model)]


def through_layers(layers: tuple[Layer, ...]) -> Callable[[Array], Array]:
    """Return the function that layers without parameters compute."""
    return lambda v: reduce(lambda v, layer: layer.apply({}, v), layers, v)


def prediction_and_body(
    model: Layer, path: str | None, params: Params, x: Any, key: Array | None, *, train: bool = False
) -> tuple[Array, Array]:
    """Return the prediction, and the input of the layer at ``path``, which is the prediction itself without one."""
    if path is None:
        y = model.apply(params, x, key=key, train=train)
        return y, y
    taps = Taps()
    y = taps.put_on(model).apply(params, x, key=key, train=train)
    return y, taps.seen[path][0]


def counted(cost: Cost, batch: Any) -> tuple[Array, Array, Array | None]:
    """Return a batch, whose weights may be None, as the cost gives it to the model."""
    return cost.counted_batch("preflight", tuple(part for part in batch if part is not None))


def look_of(cost: Cost, params: Params, batch: Any, key: Array, regression: Any) -> Look:
    x, y, weights = counted(cost, batch)
    prediction = cost.model.apply(params, x, key=key)
    loss = cost.mean_loss(prediction, y, weights)
    centered = loss
    if checks.is_float(y) and y.shape == prediction.shape:
        shift = (y.astype(prediction.dtype) - prediction).mean(0)
        centered = jnp.where(regression, jnp.fmin(loss, cost.mean_loss(prediction + shift, y, weights)), loss)
    return Look(pass_of(cost, params, batch, key=key), prediction, loss, centered)  # type: ignore[arg-type]


def all_bounds(
    cost: Cost, tail: tuple[Layer, ...], prediction: Shape, body: Shape, y: Array, weights: Array
) -> tuple[Array, ...]:
    batch: Any = jnp.zeros(y.shape[:1]), y, weights
    free = loss_bounds(cost, prediction, batch)
    if not tail:
        return free
    through = through_layers(tail)
    return *free, constant_baseline(cost, batch, body, through), floor(cost, batch, body, through)


def train(
    cost: Cost, params: Params, state: Any, batch: Any, key: Array, goal: Any, most: Any, plain: Any
) -> tuple[Params, Array, Array]:
    """Return parameters, cost and number of steps when the cost is below ``goal``, or after ``most`` steps.

    Adam learns the batch in the deterministic network, without the penalty. A ``plain`` step goes against the gradient
    by 1 % of the norm of all parameters: Adam's, of one size for all entries, would make equal units of zeros. All
    parameters are one vector, because the program then compiles in a time that does not grow with their number.
    """
    x, y, weights = counted(cost, batch)
    vector, as_tree = as_vector(params)

    def value(vector: Array) -> Array:
        return cost.mean_loss(cost.model.apply(as_tree(vector), x, key=key), y, weights)

    def step(carry: Any) -> Any:
        vector, state, _, done = carry
        loss, slope = jax.value_and_grad(value)(vector)
        updates, state = ADAM.update(slope, state, vector)
        length = jnp.maximum(norm(slope), jnp.finfo(jnp.float32).tiny)
        updates = jnp.where(plain, -PLAIN * norm(vector) / length * slope, updates)
        return apply_updates(vector, updates), state, loss.astype(jnp.float32), done + 1

    def goes_on(carry: Any) -> Array:
        return (carry[3] < most) & (carry[2] > goal)

    start = vector, state, jnp.full((), jnp.inf, jnp.float32), jnp.zeros((), jnp.int32)
    vector, state, loss, steps = jax.lax.while_loop(goes_on, step, start)
    return as_tree(vector), loss, steps


ADAM = optimizers.adam(RATE)


def adam_of(params: Params) -> Any:
    return ADAM.init(as_vector(params)[0])


def as_vector(params: Params) -> tuple[Array, Callable[[Array], Params]]:
    """Return all floating-point parameters as one vector in float32, and the function from it to the parameters."""
    leaves, structure = jax.tree.flatten(params)
    floats = [leaf for leaf in leaves if checks.is_float(leaf)]
    ends = np.cumsum([0, *(leaf.size for leaf in floats)]).tolist()
    vector = jnp.concatenate([jnp.zeros(0, jnp.float32), *(leaf.astype(jnp.float32).ravel() for leaf in floats)])

    def as_tree(vector: Array) -> Params:
        new = iter(
            vector[start:end].reshape(leaf.shape).astype(leaf.dtype)
            for leaf, start, end in zip(floats, ends, ends[1:], strict=False)
        )
        return jax.tree.unflatten(structure, [next(new) if checks.is_float(leaf) else leaf for leaf in leaves])

    return vector, as_tree


def forward_of(
    cost: Cost, path: str | None, train: bool, params: Params, x: Array, y: Array, key: Array
) -> tuple[Array, ...]:
    prediction, body = prediction_and_body(cost.model, path, params, x, key, train=train)
    return prediction, body, cost.mean_loss(prediction, y)
