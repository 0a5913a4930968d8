"""Verdicts on recurrent layers, from the last state of the run and a few of the training sequences."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from fnnet.diagnosis.changes import Change
from fnnet.diagnosis.evidence import Evidence
from fnnet.diagnosis.report import NotLookedAt, Verdict
from fnnet.diagnosis.thresholds import bound, found
from fnnet.initializers import orthogonal
from fnnet.inspect.signals import Taps
from fnnet.layers import Recurrent
from fnnet.layers.cells import LSTMCell, RNNCell
from fnnet.layers.nesting import child_params
from fnnet.types import Array, Params

SEQUENCES = 16
LEFT = 1e-3  # of the last gradient, beyond which nothing is said to reach back


def memory_does_not_reach_back(run: Evidence) -> list[Verdict]:
    """What happened some steps ago has no influence on the state of a recurrent layer, nor on its gradient.

    Statistic: the horizon over the length ``T`` of the sequences: how many steps back ``‖(∂c_T/∂c_t)ᵀ v‖``, for random
    ``v``, stays above 0.001 of its value at ``T``; the median over 16 training sequences, at the end of the run.
    Threshold: < 0.25, where ``λ`` > 0.5.

    Source: Pascanu, Mikolov and Bengio 2013; ``fnnet.inspect.gradient_flow`` has the exact norms.

    When it is wrong: a task that needs a short memory is learned with one, which is why ``λ`` must be high.
    """
    name, statistic = "memory does not reach back", "horizon over the length"
    layers = recurrent_layers(run)
    if not run.late_training > bound(name, "lambda"):
        return []
    verdicts = []
    for path, layer, params, x in layers:
        norms = carry_gradients(layer, params, x)
        steps = len(norms) - 1
        horizon = (norms[::-1] > LEFT * norms[-1]).argmin(0)
        horizon = np.where((norms > LEFT * norms[-1]).all(0), steps, horizon - 1)
        value = float(np.median(horizon) / steps)
        if not value < bound(name, statistic):
            continue
        sentence = f"Layer {path} remembers {value * steps:.0f} of {steps} steps: gradients from further back are gone."
        remedy = [Change("params", "draw", orthogonal)]
        if isinstance(layer.cell, RNNCell):
            remedy = [Change(f"model.{path}", "replace", replace(layer, cell=LSTMCell(layer.cell.features))), *remedy]
        evidence = {"norms": np.median(norms, 1).tolist()}
        verdicts.append(
            found(name, statistic, value, "suspected", sentence, layer=path, evidence=evidence, remedy=remedy)
        )
    return verdicts


def state_explodes_through_time(run: Evidence) -> list[Verdict]:
    """A small change of an early state of a recurrent layer changes the last one a thousand times as much.

    Statistic: the largest ``‖(∂c_T/∂c_t)ᵀ v‖`` over the steps, beside its value at ``T``, for random ``v``; the median
    over 16 training sequences, at the end of the run. Threshold: > 1000, where ``λ`` > 0.1.

    Source: Pascanu, Mikolov and Bengio 2013, section 2.

    When it is wrong: a chaotic state can be trained with clipped gradients, so it is the rerun that tells.
    """
    name, statistic = "state explodes through time", "largest norm over the last"
    layers = recurrent_layers(run)
    if not run.late_training > bound(name, "lambda"):
        return []
    verdicts = []
    for path, layer, params, x in layers:
        norms = carry_gradients(layer, params, x)
        value = float(np.median(norms.max(0) / norms[-1]))
        if value > bound(name, statistic) or not np.isfinite(value):
            sentence = f"In layer {path} a change of an early state grows {value:.1e} times on its way to the end."
            remedy = (Change("gradients", "clip", 1.0), Change("params", "scale", 0.5))
            verdicts.append(found(name, statistic, value, "suspected", sentence, layer=path, remedy=remedy))
    return verdicts


def recurrent_layers(run: Evidence) -> list[tuple[str, Recurrent, Params, Array]]:
    """Return ``(path, layer, params, x)`` for each ``Recurrent`` of the model, with the sequences that go into it."""
    state = run.given("state", "it needs the last state and data; pass state= and data= to diagnose")
    x = jnp.asarray(run.sample("data")[0][:SEQUENCES])
    taps = Taps()
    taps.put_on(run.cost.model).apply(state.params, x)
    found = []
    for path, layer in taps.layers.items():
        if isinstance(layer, Recurrent) and path in taps.seen:
            params = state.params
            for name in filter(None, path.split(".")):
                params = child_params(params, name)
            found.append((path, layer, params, taps.seen[path][0]))
    if not found:
        raise NotLookedAt("the model has no Recurrent layer that could be seen")
    return found


def carry_gradients(layer: Recurrent, params: Params, x: Array) -> np.ndarray:
    """Return ``‖(∂c_T/∂c_t)ᵀ v‖`` for ``t = 0 ... T`` in the order in which the layer runs, ``(T + 1, N)``.

    ``v`` is a random vector with independent normal entries. Zeros are added to the carry after every step, and the
    derivatives with respect to them are the gradients that arrive there.
    """
    x = jnp.swapaxes(x, 0, 1)[::-1] if layer.reverse else jnp.swapaxes(x, 0, 1)
    start = layer.cell.initial_carry(x.shape[1], x.dtype)
    zeros = jax.tree.map(lambda c: jnp.zeros((len(x) + 1, *c.shape), c.dtype), start)
    random = np.random.default_rng(0)
    v = jax.tree.map(lambda c: jnp.asarray(random.standard_normal(c.shape), c.dtype), start)

    @jax.jit
    def gradients(params: Params) -> Params:
        def last(zeros: Params) -> Params:
            first, rest = jax.tree.map(lambda z: z[0], zeros), jax.tree.map(lambda z: z[1:], zeros)

            def step(carry: Params, inputs: tuple[Array, Params]) -> tuple[Params, None]:
                after, _ = layer.cell.step(params, carry, inputs[0])
                return jax.tree.map(jnp.add, after, inputs[1]), None

            return jax.lax.scan(step, jax.tree.map(jnp.add, start, first), (x, rest))[0]

        return jax.vjp(last, zeros)[1](v)[0]

    squares = [np.square(np.asarray(g, np.float64)).sum(-1) for g in jax.tree.leaves(gradients(params))]
    return np.sqrt(np.sum(squares, 0))
