"""A callback of ``fit`` that measures a run while it trains: a few numbers per layer, for ``diagnose``.

The step probe is computed inside the compiled step, every so many steps; the look once per epoch, on examples that are
held fixed for the whole run. Letters: ``S`` probed steps, ``E`` looks (one before the first step, then one per epoch),
``P`` parameters, ``L`` layers, ``n`` examples of the probe set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnnet import checks
from fnnet.checks import at_least_float32
from fnnet.configuration import configuration
from fnnet.cost import Cost
from fnnet.data.stream import Stream
from fnnet.diagnosis.programs import compiled
from fnnet.diagnosis.watched import Watched
from fnnet.inspect.baselines import example_losses
from fnnet.inspect.curvature import gradient_statistics
from fnnet.inspect.signals import leaf_layers, signals
from fnnet.optimizers import Optimizer, apply_updates
from fnnet.training.callback import Callback, Memory, Run
from fnnet.training.data import placed_data
from fnnet.training.placement import local
from fnnet.training.snapshot import Record
from fnnet.training.state import TrainState
from fnnet.training.step import gradients
from fnnet.types import Array, Batch, Params

FIRST = 20  # steps, of which each is probed: a rate that is too high does its damage there
PARTS, OF = 8, 16  # the gradients of so many parts of so many training examples each tell the noise


@configuration
class StepProbe:
    """What ``Watch`` measures in a step: the pure function that ``train_step`` calls as one of its ``probes``.

    Each of the first 20 steps is probed, and after them one step in every block of ``every``, each time at another
    place in its block, so that nothing with a period escapes, such as ``optimizers.accumulate``. The gradient of a
    probed step is computed a second time. The other steps cost nothing; their step is -1 and their numbers are 0. All
    numbers are float32, or float64 for such a cost. With ``u``, the change of the parameters, they are:

    - ``cost``: ``L_B(θ)``, the cost of the batch before the update, of every step;
    - ``change``: ``L_B(θ + u) − L_B(θ)``, with the same batch and random numbers, in train mode;
    - ``predicted``: ``⟨g, u⟩``, what the change would be if the cost were linear;
    - ``gradient_norm``, ``update_norm``, ``parameter_norm``: ``‖g‖``, ``‖u‖``, ``‖θ‖``, each ``(P,)``;
    - ``lost``: the share of the entries of each low-precision parameter with ``g ≠ 0`` and ``u = 0``, ``(P,)``.
    """

    every: int = 50

    def __call__(
        self, cost: Cost, value_and_grad: Any, before: TrainState, batch: Batch, after: TrainState, value: Array
    ) -> dict[str, Array]:
        measured = partial(measured_step, cost, value_and_grad, before, batch, after)
        number, place = jnp.divmod(before.step, self.every)
        due = (before.step < FIRST) | (place == number % self.every)
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(measured))
        numbers = jax.lax.cond(due, measured, lambda: zeros)
        return numbers | {"step": jnp.where(due, before.step, -1), "cost": value.astype(at_least_float32(value))}


def measured_step(
    cost: Cost, value_and_grad: Any, before: TrainState, batch: Batch, after: TrainState
) -> dict[str, Array]:
    """Return the numbers of one step, as ``StepProbe`` lists them."""
    value, grads = gradients(cost, value_and_grad, before, batch)
    wide = at_least_float32(value)
    moved = cost(after.params, batch, key=before.network_key(), train=True)
    p, g, q = (jax.tree.leaves(tree) for tree in (before.params, grads, after.params))
    u = [b.astype(at_least_float32(b)) - a.astype(at_least_float32(a)) for a, b in zip(p, q, strict=True)]
    return {
        "change": moved.astype(wide) - value.astype(wide),
        "predicted": stacked((jnp.vdot(a.astype(b.dtype), b) for a, b in zip(g, u, strict=True)), wide).sum(),
        **{name: stacked(map(length, leaves), wide) for name, leaves in zip(NORMS, (g, u, p), strict=True)},
        "lost": stacked((share_lost(*each) for each in zip(p, g, u, strict=True)), wide),
    }


NORMS = ("gradient_norm", "update_norm", "parameter_norm")
SIGNALS = ("dead", "saturated", "vary")


def stacked(scalars: Iterable[Any], dtype: Any = jnp.float32) -> Array:
    each = [jnp.asarray(scalar).astype(dtype) for scalar in scalars]
    return jnp.stack(each) if each else jnp.zeros(0, dtype)


def length(a: Array) -> Array:
    """Return ``‖a‖``, in at least float32."""
    return jnp.sqrt(jnp.square(a.astype(at_least_float32(a))).sum())


def share_lost(p: Array, g: Array, u: Array) -> Array | float:
    """Return the share of the entries that a gradient leaves as they are, as in rounding; 0 for float32 and wider."""
    return 0.0 if p.dtype == at_least_float32(p) else ((g != 0) & (u == 0)).mean()


def look(cost: Cost, params: Params, before: Params, training: Batch, probe: Batch | None) -> dict[str, Array]:
    """Return the numbers of a look, a pure function. The network is deterministic, and the penalty is left out.

    - ``training_losses (n,)``: the losses of the training examples;
    - ``gradient_norm (P,)``: the norms of the gradient of the mean loss of the first 128 of them;
    - ``signal``, ``noise``: the estimates of ``fnnet.inspect.curvature.NoiseScale`` from these;
    - ``penalty_push``: ``⟨∇R, −∇L⟩ / ‖∇L‖²`` for the penalty ``R``, if there is one;
    - ``losses (n,)``: the losses of the probe set, or of the training examples without one, as are the next two;
    - ``spread``: how much of the output depends on the input;
    - ``dead``, ``saturated``, ``vary``: those of ``fnnet.inspect.LayerSignals`` for each layer, ``(L,)``;
    - ``parameter_norm (P,)``, and ``travel (P,)``, ``‖θ − θ_before‖ / ‖θ_before‖``, where ``before`` are the parameters
      at the look before.
    """
    seen = training if probe is None else probe
    found = signals(cost, params, seen)
    layers = [found.get(path) for path in leaf_layers(cost.model)]
    own, old = jax.tree.leaves(params), jax.tree.leaves(before)
    losses = example_losses(cost, params, training)
    return {
        "training_losses": losses,
        "losses": losses if probe is None else example_losses(cost, params, probe),
        "spread": spread_of(cost.model.apply(params, seen[0]), seen[1]),
        "parameter_norm": stacked(map(length, own)),
        "travel": stacked(ratio(length(a - b), length(b)) for a, b in zip(own, old, strict=True)),
        **{name: stacked(jnp.nan if each is None else getattr(each, name) for each in layers) for name in SIGNALS},
        **gradients_of(cost, params, training),
    }


def gradients_of(cost: Cost, params: Params, training: Batch) -> dict[str, Array]:
    """Return what the gradients of the first 128 training examples, in 8 parts, tell; nothing of a single example."""
    size = min(max(1, len(training[0]) // PARTS), OF)
    parts = min(len(training[0]) // size, PARTS)
    if parts < 2:
        return {}
    training = training[0][: parts * size], training[1][: parts * size]
    loss = cost if cost.penalty is None else replace(cost, penalty=None)
    statistics = gradient_statistics(loss, params, training, batch_size=size, chunk=1)
    mean, variance = jax.tree.leaves(statistics.mean), jax.tree.leaves(statistics.variance)
    square, spread = stacked(jnp.square(g).sum() for g in mean).sum(), stacked(v.sum() for v in variance).sum()
    numbers = {"gradient_norm": stacked(map(length, mean)), "signal": square - spread / parts, "noise": size * spread}
    if cost.penalty is not None:
        pushes = zip(jax.tree.leaves(jax.grad(cost.penalty)(params)), mean, strict=True)
        product = stacked(jnp.vdot(push.astype(g.dtype), g) for push, g in pushes).sum()
        numbers["penalty_push"] = -product / jnp.where(square > 0, square, 1)
    return numbers


def ratio(a: Array, b: Array) -> Array:
    """Return ``a / b``, 0 where ``a`` is 0 and infinity where only ``b`` is."""
    return jnp.where(a == 0, 0, a / b.astype(a.dtype))


def spread_of(prediction: Array, target: Array) -> Array:
    """Return how much the predictions differ from example to example: 0 for a network that ignores its input.

    With labels it is the mutual information of the input and the class that a softmax of the output would draw,
    ``H(mean p) − mean H(p)`` in nats; otherwise the variance of the output over that of the target.
    """
    wide = prediction.astype(at_least_float32(prediction))
    if checks.is_integer(target) and wide.ndim == target.ndim + 1 and wide.shape[-1] > 1:
        p = jax.nn.softmax(wide).reshape(-1, wide.shape[-1])

        def entropy(p: Array) -> Array:
            return -jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0).sum(-1)

        return entropy(p.mean(0)) - entropy(p).mean()
    return ratio(wide.var(0).mean(), target.astype(wide.dtype).var(0).mean())


@partial(jax.jit, static_argnums=1)
def first_rows(arrays: Batch, count: int) -> Batch:
    """Return the first examples of arrays that may be spread over devices and processes."""
    return arrays[0][:count], arrays[1][:count]


class Watch(Callback):
    """A callback of ``fit`` that measures the run, for ``diagnose``: ``fit(..., callbacks=[watch := Watch()])``.

    ``numbers`` has the measurements by name, as arrays of NumPy. ``probe`` are the examples ``(x, y)`` of the looks, at
    most ``examples`` of them; by default the first of the validation data, else those of the training data. ``every``
    is the number of steps from one probe, which takes 4/3 of the arithmetic of a step, to the next. The record of an
    epoch gets summaries, for ``history``, ``JsonLines`` and ``TensorBoard``: ``rho``, the median of ``change /
    predicted``; ``uphill``, the share of steps with ``⟨g, u⟩ ≥ 0``; ``lambda`` and ``training_lambda``, the excess loss
    on the probe set and on training examples, 1 for the best constant and 0 for the least loss there is; ``reach``, the
    least over the layers; ``dead`` and ``saturated``, the most over the layers.

    The parameters and the numbers of training are those of a run that nobody watches, to the bit wherever XLA compiles
    the rest of the step as it does without the probe. Measurements are kept in
    checkpoints.
    """

    def __init__(self, probe: Batch | None = None, every: int = 50, *, examples: int = 512) -> None:
        checks.positive_integer("diagnosis.Watch", "every", every)
        checks.positive_integer("diagnosis.Watch", "examples", examples)
        checks.require(
            probe is None or len(probe[0]) > 0,
            "diagnosis.Watch: probe has no examples; expected (x, y) with one at least, or None",
        )
        self.step_probe, self.given, self.examples = StepProbe(every), probe, examples
        self.watched: Watched | None = None

    @property
    def numbers(self) -> dict[str, np.ndarray[Any, Any]]:
        """The measurements so far by name; those of looks begin with ``look_``."""
        return {} if self.watched is None else self.watched.numbers

    @property
    def memory(self) -> Memory | None:
        return None if self.watched is None else Memory(self.before, self.watched.as_lists())

    @memory.setter
    def memory(self, memory: Memory | None) -> None:
        assert memory is not None
        self.before, self.watched = memory.arrays, Watched.of_lists(memory.numbers)

    def start(self, run: Run) -> None:
        self.cost, self.placement = run.cost, run.placement
        state = run.before.state
        key = state.order_key()

        def first(data: Any) -> Batch:
            """Return the first examples of a set, or of the first batch of a stream, where they belong."""
            if isinstance(data, Stream) and data.on_device:
                return first_rows(data.arrays, self.examples)  # type: ignore[attr-defined]
            x, y = data.first(key) if isinstance(data, Stream) else data
            pair = x[: self.examples], y[: self.examples]
            return placed_data("diagnosis.Watch: the probe set", run.cost, run.placement, state.params, pair)

        self.training = first(run.stream)
        given = run.validation if self.given is None else self.given
        self.probe = None if given is None else first(given)
        self.before = state.params
        stream = run.stream
        self.watched = Watched.begun(run.cost, state.params, self.training, self.probe, stream.batch_size, stream.steps)
        self.watched.add_look(int(state.step), self.looked(state.params))

    def looked(self, params: Params) -> dict[str, np.ndarray[Any, Any]]:
        numbers = compiled(look, self.cost)(params, self.before, self.training, self.probe)
        return {name: np.asarray(local(value), np.float64) for name, value in numbers.items()}

    def after_chunk(self, probed: dict[str, np.ndarray[Any, Any]]) -> None:
        assert self.watched is not None
        self.watched.add_steps(probed)

    def to_record(self, state: TrainState) -> Record:
        assert self.watched is not None
        self.watched.add_look(int(state.step), self.looked(state.params))
        return self.watched.summary()

    def __call__(self, state: TrainState, record: Record) -> None:
        self.before = state.params

    # What ``sweep`` asks for: pure functions.

    look = staticmethod(look)

    def sets(self, data: Batch, validation: Batch | None) -> tuple[Batch, Batch | None]:
        """Return the training examples and the probe set of the looks at a run with these data in memory."""
        probe = validation if self.given is None else self.given
        return first_rows(data, self.examples), probe and first_rows(probe, self.examples)

    def measured(
        self, cost: Cost, optimizer: Optimizer, before: TrainState, after: TrainState, batch: Batch, sets: Any
    ) -> dict[str, Any]:
        """Return the numbers of a step from ``before`` on a batch, which is not made, and of a look at ``after``."""
        value, grads = gradients(cost, jax.value_and_grad, before, batch)
        updates, _ = optimizer.update(grads, before.opt_state, before.params)
        moved = before._replace(params=apply_updates(before.params, updates))
        step = measured_step(cost, jax.value_and_grad, before, batch, moved)
        return {
            "step": step | {"step": before.step, "cost": value},
            "look": look(cost, after.params, before.params, *sets),
        }
