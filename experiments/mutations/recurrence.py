"""Faults in backpropagation through time.

The healthy rule goes from the last step to the first. ``δ_t`` is the gradient before the activation functions of the
gates; it follows from the gradients of ``y_t`` and of the carry. Then ``δ_t w_hᵀ`` is the gradient of the carry before,
``dw_x = Σ_t x_tᵀ δ_t``, ``dw_h = Σ_t h_{t−1}ᵀ δ_t``, ``db = Σ_t δ_t`` and ``dx_t = δ_t w_xᵀ``. Each fault is the
derivative of a changed loop. Most of these loops have the right values, because ``alike(value, other)`` has the value
of its first argument and the derivative of its second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import fnnet
from experiments.mutations.layers import after, dx
from experiments.mutations.mutant import Broken, Fault, Mutant, Subject, normal
from fnnet import Bidirectional, GRUCell, LSTMCell, Recurrent, Rematerialized, RNNCell, Truncated, sigmoid, tanh
from fnnet.backprop import RULES, Rule, scan_vjp
from fnnet.types import Array, Params, Shaped

STEPS = 5
X = normal(3, STEPS, 3)
stopped = jax.lax.stop_gradient


@dataclass(frozen=True)
class Compiled:
    """A recurrent layer that is compiled once, because checkers run it many times. ``lengths`` mask the sequences."""

    layer: Any
    lengths: tuple[int, ...] | None = None

    def init(self, key: Array, x: Shaped) -> Params:
        return self.layer.init(key, x)

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        return run(self, params, x)

    def mask(self, x: Shaped) -> Array:
        return jnp.arange(x.shape[1]) < jnp.array(self.lengths)[:, None]


@partial(jax.jit, static_argnums=0)
def run(compiled: Compiled, params: Params, x: Array) -> Array:
    if compiled.lengths is None:
        return compiled.layer.apply(params, x)
    return compiled.layer.scan(params, x, mask=compiled.mask(x))[0]


def compiled_forward(compiled: Compiled, params: Params, x: Array, **options: Any) -> tuple[Array, Any]:
    if compiled.lengths is None:
        return RULES.look_up(compiled.layer).forward(compiled.layer, params, x, **options)
    return compiled.apply(params, x), x


def compiled_backward(compiled: Compiled, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
    if compiled.lengths is None:
        return RULES.look_up(compiled.layer).backward(compiled.layer, params, residuals, dy)
    (_, carry), pullback = scan_vjp(compiled.layer, params, residuals, mask=compiled.mask(residuals))
    dparams, dx, _ = pullback(dy, jax.tree.map(jnp.zeros_like, carry))
    return dparams, dx


RULES[Compiled] = Rule(compiled_forward, compiled_backward)

RNN = Subject("Recurrent of RNNCell", Compiled(Recurrent(RNNCell(3))), X)
GRU = Subject("Recurrent of GRUCell", Compiled(Recurrent(GRUCell(3))), X)
LSTM = Subject("Recurrent of LSTMCell", Compiled(Recurrent(LSTMCell(3))), X)
MASKED = Subject("Recurrent, reversed and masked", Compiled(Recurrent(RNNCell(3), reverse=True), (STEPS, 3, 1)), X)
BOTH = Subject("Bidirectional", Compiled(Bidirectional(RNNCell(3))), X)
REMATERIALIZED = Subject("Rematerialized", Compiled(Rematerialized(Recurrent(RNNCell(3)), 2)), X)


def alike(value: Array, other: Array) -> Array:
    """Return ``value`` with the derivative of ``other``."""
    return stopped(value - other) + other


def derivative_of(function: Broken) -> Fault:
    """Return the fault whose backward pass is the derivative of ``function(layer, params, x)``, compiled once."""
    return differentiating(jax.jit(function, static_argnums=0))


def differentiating(function: Broken) -> Fault:
    """Return the fault whose backward pass is the derivative of ``function(layer, params, x)``."""

    def fault(rule: Any) -> Any:
        def forward(layer: Any, params: Params, x: Array, **options: Any) -> tuple[Array, Array]:
            return run(Compiled(layer), params, x) if not isinstance(layer, Compiled) else layer.apply(params, x), x

        def backward(layer: Any, params: Params, x: Array, dy: Array) -> tuple[Params, Array]:
            return jax.vjp(lambda params, x: function(layer, params, x), params, x)[1](dy)

        return rule._replace(forward=forward, backward=backward)

    return fault


def steps(step: Broken) -> Fault:
    """Return the fault that differentiates a loop over ``step(cell, t, params, carry, x_t) -> (carry, y)``."""

    def loop(layer: Any, params: Params, x: Array) -> Array:
        carry, ys = layer.cell.initial_carry(len(x), x.dtype), []
        for t in range(x.shape[1]):
            carry, y = step(layer.cell, t, params, carry, x[:, t])
            ys.append(y)
        return jnp.stack(ys, 1) if layer.return_sequences else ys[-1]

    return differentiating(loop)


def handing(change: Broken) -> Fault:
    """Return the fault that differentiates the loop in which step ``t`` gets ``change(t, carry)``."""
    return steps(lambda cell, t, params, carry, x: cell.step(params, change(t, carry), x))


def missing(name: str, at: Broken) -> Fault:
    """Return the fault that differentiates the loop with ``params[name]`` constant at the steps where ``at(t)``."""

    def step(cell: Any, t: int, params: Params, carry: Any, x: Array) -> Any:
        return cell.step(params | {name: stopped(params[name])} if at(t) else params, carry, x)

    return steps(step)


def rnn(h_times_w: Broken | None = None, function: Broken = lambda z: tanh(z)) -> Fault:
    """Return the fault that differentiates the loop of ``h ← f(x w_x + b + h_times_w(h, w_h, z))``."""

    def step(cell: Any, t: int, params: Params, h: Array, x: Array) -> Any:
        z = cell.project(params, x)
        product = h @ params["w_h"]
        h = function(z + (alike(product, h_times_w(h, params["w_h"], z)) if h_times_w else product))
        return h, h

    return steps(step)


def transposed(h: Array, w: Array, z: Array) -> Array:
    """Return ``h w`` with the wrong derivative ``dh = δ w_h``."""
    return h @ stopped(w).T + stopped(h) @ w


def state_after(h: Array, w: Array, z: Array) -> Array:
    """Return ``h w`` with the wrong derivative ``dw_h = Σ_t h_tᵀ δ_t``."""
    return h @ stopped(w) + stopped(tanh(z + h @ w)) @ w


def lstm(change: Broken) -> Fault:
    """Return the fault that differentiates an LSTM's loop with ``(i, f, g, o, tanh(c)) = change([z_i, ..., c])``."""

    def step(cell: Any, t: int, params: Params, carry: Any, x: Array) -> Any:
        h, c = carry
        z = jnp.split(cell.project(params, x) + h @ params["w_h"], 4, -1)
        i, f, g, o = change(z)[:4]
        c = f * c + i * g
        h = o * change([*z, c])[4]
        return (h, c), h

    return steps(step)


def gates(**broken: Broken) -> Fault:
    """Return the fault that differentiates an LSTM's loop with broken gates, or with a broken ``tanh(c)`` named ``c``.

    ``broken[name](value, z, all_z)`` replaces the gate's value.
    """
    healthy = {"i": sigmoid, "f": sigmoid, "g": tanh, "o": sigmoid, "c": tanh}

    def change(z: Any) -> list[Array]:
        values = [function(each) for function, each in zip(healthy.values(), z, strict=False)]
        return [
            broken[name](v, each, z) if name in broken else v for name, v, each in zip(healthy, values, z, strict=False)
        ]

    return lstm(change)


def gru(change: Broken) -> Fault:
    """Return the fault that differentiates a GRU's loop; ``h = change(h, r, u, q, n)``, candidate ``n(r ⊙ q)``."""

    def step(cell: Any, t: int, params: Params, h: Array, x: Array) -> Any:
        z, a = jnp.split(cell.project(params, x), 3, -1), jnp.split(h @ params["w_h"], 3, -1)
        r, u = sigmoid(z[0] + a[0]), sigmoid(z[1] + a[1])
        h = change(h, r, u, a[2] + params["b_h"], lambda product: tanh(z[2] + product))
        return h, h

    return steps(step)


def one_direction(layer: Bidirectional, params: Params, x: Array) -> Array:
    """Return the layer's outputs, with ``dx`` of the forward direction only."""
    inputs = {"forward": x, "backward": stopped(x)}
    return jnp.concatenate([one.apply(params[k], inputs[k]) for k, one in layer.directions.items()], -1)


def halves_swapped(layer: Bidirectional, params: Params, x: Array) -> Array:
    return jnp.roll(layer.apply(params, x), layer.cell.features, -1)


def without_mask(layer: Compiled, params: Params, x: Array) -> Array:
    return layer.layer.apply(params, x)


def a_step_short(layer: Compiled, params: Params, x: Array) -> Array:
    return run(replace(layer, lengths=(STEPS - 1, 2, 0)), params, x)


def not_reversed(layer: Compiled, params: Params, x: Array) -> Array:
    return run(replace(layer, layer=replace(layer.layer, reverse=False)), params, x)


def mutant(name: str, subject: Subject, fault: Fault) -> Mutant:
    entry = type(subject.model if subject is MASKED else subject.model.layer)
    return Mutant(f"{subject.name}: {name}", subject, RULES, entry, fault)


END = STEPS - 1
MUTANTS = (
    mutant("gradient of the carry dropped", RNN, handing(lambda t, h: stopped(h))),
    mutant("gradient of the carry times 0.99", RNN, handing(lambda t, h: alike(h, 0.99 * h))),
    mutant("gradient of the carry dropped at one step", RNN, handing(lambda t, h: stopped(h) if t == 2 else h)),
    mutant("dw_h misses the last step", RNN, missing("w_h", lambda t: t == END)),
    mutant("dw_x misses the first step", RNN, missing("w_x", lambda t: t == 0)),
    mutant("db of the last step only", RNN, missing("b", lambda t: t < END)),
    mutant("h_t instead of h_(t-1) in dw_h", RNN, rnn(state_after)),
    mutant("w_h instead of its transpose", RNN, rnn(transposed)),
    mutant("f' forgotten", RNN, rnn(function=lambda z: alike(tanh(z), z))),
    mutant("f' at h instead of z", RNN, rnn(function=lambda z: alike(tanh(z), (1 - stopped(tanh(tanh(z))) ** 2) * z))),
    mutant("steps of dx reversed", RNN, dx(lambda dx: dx[:, ::-1])),
    mutant("dx of the step after", RNN, dx(lambda dx: jnp.roll(dx, -1, 1))),
    mutant("dw_h a mean over the steps", RNN, after(lambda dp, dx: (dp | {"w_h": dp["w_h"] / STEPS}, dx))),
    mutant("time not reversed", MASKED, derivative_of(not_reversed)),
    mutant("mask ignored", MASKED, derivative_of(without_mask)),
    mutant("mask a step short", MASKED, derivative_of(a_step_short)),
    mutant("gradient of the cell state dropped", LSTM, handing(lambda t, c: (c[0], stopped(c[1])))),
    mutant("gradient of h dropped", LSTM, handing(lambda t, c: (stopped(c[0]), c[1]))),
    mutant("forget gate treated as a constant", LSTM, gates(f=lambda f, z, _: stopped(f))),
    mutant("1 - f forgotten", LSTM, gates(f=lambda f, z, _: alike(f, fnnet.softplus(z)))),
    mutant("1 - g squared forgotten", LSTM, gates(g=lambda g, z, _: alike(g, z))),
    mutant("1 - tanh(c) squared forgotten", LSTM, gates(c=lambda t, c, _: alike(t, c))),
    mutant(
        "input gate with the derivative of the forget gate",
        LSTM,
        gates(i=lambda i, z, all_: alike(i, sigmoid(all_[1]))),
    ),
    mutant("output gate's derivative doubled", LSTM, gates(o=lambda o, z, _: alike(o, 2 * o))),
    mutant(
        "1 - u instead of u towards the carry",
        GRU,
        gru(lambda h, r, u, q, n: alike(u * h, stopped(1 - u) * h + u * stopped(h)) + (1 - u) * n(r * q)),
    ),
    mutant("update gate without the candidate", GRU, gru(lambda h, r, u, q, n: u * h + (1 - stopped(u)) * n(r * q))),
    mutant("reset gate treated as a constant", GRU, gru(lambda h, r, u, q, n: u * h + (1 - u) * n(stopped(r) * q))),
    mutant(
        "reset gate forgotten before dq",
        GRU,
        gru(lambda h, r, u, q, n: u * h + (1 - u) * n(alike(r * q, q + r * stopped(q)))),
    ),
    mutant("db_h zero", GRU, after(lambda dp, dx: (dp | {"b_h": 0 * dp["b_h"]}, dx))),
    mutant("dx of one direction", BOTH, derivative_of(one_direction)),
    mutant("the other direction's half", BOTH, derivative_of(halves_swapped)),
    mutant(
        "nothing carried between segments",
        REMATERIALIZED,
        derivative_of(lambda layer, p, x: Truncated(layer.layer, 2).apply(p, x)),
    ),
)
