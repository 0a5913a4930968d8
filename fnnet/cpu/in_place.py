"""Backpropagation through time in place: one loop reads and overwrites the arrays of all steps.

It computes what ``through_time`` in ``fnnet.backprop.layers.recurrent`` defines. On CPU memory costs time, because a
program gets it from the system page by page. So the gates take the place of the inputs' part ``z = x w_x + b``, and
their gradients δ that of the gates; arrays stay ``(N, T, ·)``, as inputs and outputs are; what is cheap is computed
again, such as ``tanh(c)``. The weight gradients are products over ``N T`` rows after the loop.

XLA copies a whole array in each step whose loop still reads it after it was written. Therefore a step *reads ahead*:
it writes its own entries, then reads those of the next step and carries them.

Measured, forward and backward, at (T, N, D, H) = (50, 50, 65, 128) and (100, 64, 128, 256), float32, 2 cores,
jax 0.10.2. Intel Xeon at 2.5 GHz, Cascade Lake, AVX-512: a plain ``jax.lax.scan`` that stacks the same residuals, and
takes the weight gradients after the loop too, needs 1.15 and 1.24 (RNN), 1.11 and 1.12 (GRU), 1.31 and 1.35 (LSTM)
times the time, and 2.5 to 3.7 times the memory; in place without reading ahead 2.0 and 2.3 (RNN), 3.0 and 6.3 (GRU),
2.9 and 6.2 (LSTM) times the time. AMD EPYC with AVX-512: in place without reading ahead 2.7 times the time; against
``jax.vjp`` of the textbook's equations, 1.66 and 1.09 (GRU), 1.22 and 1.24 (LSTM).

Try without it from jax 0.11 on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fnnet.activations import sigmoid, tanh
from fnnet.backprop.activations import activation_rule
from fnnet.layers.cells import Carry, GRUCell, LSTMCell, RNNCell, check_params
from fnnet.layers.recurrent import where_exists, where_steps_exist
from fnnet.shards import varying_with
from fnnet.types import Array, Params

Arrays = tuple[Array, ...]


class Steps(NamedTuple):
    """One step of a cell, split into what happens in the loop and what happens after it.

    ``forward(cell, params, carry, z) -> (after, gates, kept)``, with gates of the shape of ``z``.
    ``backward(cell, w, h, gates, kept, dafter, dy) -> (dcarry, delta, left)``, with ``w = w_hᵀ``, ``h`` the output
    before the step, ``delta = dz``, and ``left`` of the shapes of ``kept``, whose place it takes.
    ``weights(cell, h, delta, left) -> dparams`` except those of ``z``, from arrays ``(N, T, ·)``.
    """

    forward: Callable[..., tuple[Carry, Array, Arrays]]
    backward: Callable[..., tuple[Carry, Array, Arrays]]
    weights: Callable[..., Params]


class Residuals(NamedTuple):
    """What the forward pass keeps."""

    x: Array  # (N, T, D)
    mask: Array | None  # (N, T)
    gates: Array  # (N, T, G H)
    kept: Arrays
    hs: Array  # (N, T, H), the state after each step
    start: Array  # (N, H), the state before the first step


def forward(cell: Any, params: Params, x: Array, carry: Carry, mask: Array | None) -> tuple[Array, Carry, Residuals]:
    """Return the outputs of all steps, the last carry and the residuals, for a cell in ``STEPS``."""
    check_params(cell, params, x)
    rule, last, start = STEPS[type(cell)], x.shape[1] - 1, output(carry)
    z = x @ params["w_x"]  # b is added in each step: XLA would hold both the product and the sum

    def step(state: Any, t: Array) -> Any:
        before, z, gates, kept, hs = state
        after, here, more = rule.forward(cell, params, before, z + params["b"])
        after = where_exists(None if mask is None else mask[:, t], after, before)
        gates, kept, hs = put(gates, t, here), put(kept, t, more), put(hs, t, output(after))
        return (after, at(gates, jnp.minimum(t + 1, last)), gates, kept, hs), None

    shapes = jax.eval_shape(lambda: rule.forward(cell, params, carry, at(z, 0))[2])
    kept, hs = jax.tree.map(lambda a: jnp.zeros((*x.shape[:2], a.shape[-1]), a.dtype), (shapes, start))
    state = varying_with((carry, at(z, 0), z, kept, hs), params, mask)
    (carry, _, gates, kept, hs), _ = jax.lax.scan(step, state, jnp.arange(x.shape[1]))
    return where_steps_exist(hs, mask), carry, Residuals(x, mask, gates, kept, hs, start)


def backward(cell: Any, params: Params, residuals: Residuals, dy: Array, dcarry: Carry) -> tuple[Params, Array, Carry]:
    """Return ``(dparams, dx, dcarry)`` for gradients ``dy`` of all outputs and ``dcarry`` of the last carry."""
    x, mask, gates, kept, hs, start = residuals
    rule, last, w = STEPS[type(cell)], x.shape[1] - 1, params["w_h"].T

    def step(state: Any, t: Array) -> Any:
        dafter, gates, kept, deltas, left = state
        exists = None if mask is None else mask[:, t]
        before = jnp.maximum(t - 1, 0)
        h = jnp.where(t == 0, start, at(hs, before))
        # The derivative is linear: a step that an example does not have gets zeros and leaves zeros.
        here = where_exists(exists, dafter, jax.tree.map(jnp.zeros_like, dafter))
        dbefore, delta, more = rule.backward(cell, w, h, gates, kept, here, at(dy, t))
        deltas, left = put(deltas, t, delta), put(left, t, more)
        return (where_exists(exists, dbefore, dafter), at(deltas, before), at(left, before), deltas, left), None

    state = varying_with((dcarry, at(gates, last), at(kept, last), gates, kept), params, residuals, dy)
    (dcarry, _, _, delta, left), _ = jax.lax.scan(step, state, jnp.arange(x.shape[1]), reverse=True)
    dparams = rule.weights(cell, jnp.concatenate([start[:, None], hs[:, :-1]], 1), delta, left)
    return dparams | {"w_x": outer_sum(x, delta), "b": delta.sum((0, 1))}, delta @ params["w_x"].T, dcarry


def output(carry: Carry) -> Array:
    """Return the output of the step that left a carry: its first array."""
    return jax.tree.leaves(carry)[0]


def at(steps: Any, t: Array | int) -> Any:
    """Return step ``t`` of arrays of all steps, ``(N, T, ·) -> (N, ·)``."""
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, t, 1, keepdims=False), steps)


def put(steps: Any, t: Array, step: Any) -> Any:
    """Return the arrays of all steps with step ``t`` replaced."""
    return jax.tree.map(lambda a, here: jax.lax.dynamic_update_index_in_dim(a, here, t, 1), steps, step)


def outer_sum(a: Array, b: Array) -> Array:
    """Compute ``Σ aᵀ b`` over examples and steps as one product, ``(N, T, A), (N, T, B) -> (A, B)``."""
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


# The derivations stand in fnnet.backprop.layers.cells.


def rnn_forward(cell: RNNCell, params: Params, carry: Array, z: Array) -> tuple[Array, Array, Arrays]:
    a = z + carry @ params["w_h"]
    return cell.activation(a), a, ()


def rnn_backward(
    cell: RNNCell, w: Array, h: Array, gates: Array, kept: Arrays, dafter: Array, dy: Array
) -> tuple[Array, Array, Arrays]:
    rule, options = activation_rule(cell.activation)
    _, residual = rule.forward(gates, **options)
    delta = rule.backward(residual, dafter + dy, **options)
    return delta @ w, delta, ()


def rnn_weights(cell: RNNCell, h: Array, delta: Array, left: Arrays) -> Params:
    return {"w_h": outer_sum(h, delta)}


def gru_forward(cell: GRUCell, params: Params, carry: Array, z: Array) -> tuple[Array, Array, Arrays]:
    h, w_h, two = carry, params["w_h"], 2 * cell.features
    if cell.reset_after:
        a = h @ w_h
        r, u = jnp.split(sigmoid(z[:, :two] + a[:, :two]), 2, -1)
        q = a[:, two:] + params["b_h"]
        n = tanh(z[:, two:] + r * q)
    else:
        r, u = jnp.split(sigmoid(z[:, :two] + h @ w_h[:, :two]), 2, -1)
        q = r * h
        n = tanh(z[:, two:] + q @ w_h[:, two:])
    return n + u * (h - n), jnp.concatenate([r, u, n], -1), (q,)


def gru_backward(
    cell: GRUCell, w: Array, h: Array, gates: Array, kept: Arrays, dafter: Array, dy: Array
) -> tuple[Array, Array, Arrays]:
    """Leave ``dq`` with the reset after, ``q`` with the reset before."""
    r, u, n = jnp.split(gates, 3, -1)
    (q,), two, dh = kept, 2 * cell.features, dafter + dy
    delta_u = dh * (h - n) * (u * (1 - u))
    delta_n = dh * (1 - u) * ((1 - n) * (1 + n))
    if cell.reset_after:
        dq = r * delta_n
        delta_r = q * delta_n * (r * (1 - r))
        dcarry = dh * u + jnp.concatenate([delta_r, delta_u, dq], -1) @ w
        return dcarry, jnp.concatenate([delta_r, delta_u, delta_n], -1), (dq,)
    dq = delta_n @ w[two:]
    delta_r = h * dq * (r * (1 - r))
    dcarry = dh * u + r * dq + jnp.concatenate([delta_r, delta_u], -1) @ w[:two]
    return dcarry, jnp.concatenate([delta_r, delta_u, delta_n], -1), (q,)


def gru_weights(cell: GRUCell, h: Array, delta: Array, left: Arrays) -> Params:
    two = 2 * cell.features
    if not cell.reset_after:
        return {"w_h": jnp.concatenate([outer_sum(h, delta[..., :two]), outer_sum(left[0], delta[..., two:])], -1)}
    # The product with δ_n is computed and dropped: that is faster than a copy of δ_r and δ_u of all steps.
    gates, dq = outer_sum(h, delta)[:, :two], left[0]
    return {"w_h": jnp.concatenate([gates, outer_sum(h, dq)], -1), "b_h": dq.sum((0, 1))}


def lstm_forward(
    cell: LSTMCell, params: Params, carry: tuple[Array, Array], z: Array
) -> tuple[tuple[Array, Array], Array, Arrays]:
    h, c = carry
    i, f, g, o = jnp.split(z + h @ params["w_h"], 4, -1)
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    after = f * c + i * g
    return (o * tanh(after), after), jnp.concatenate([i, f, g, o], -1), (c,)


def lstm_backward(
    cell: LSTMCell, w: Array, h: Array, gates: Array, kept: Arrays, dafter: tuple[Array, Array], dy: Array
) -> tuple[tuple[Array, Array], Array, Arrays]:
    """Leave ``h`` in the place of ``c``, for ``dw_h``, which then needs no copy of the outputs shifted by a step."""
    i, f, g, o = jnp.split(gates, 4, -1)
    (c,) = kept
    t = tanh(f * c + i * g)
    dh = dafter[0] + dy
    dc = dafter[1] + dh * o * ((1 - t) * (1 + t))
    before = dc * g * (i * (1 - i)), dc * c * (f * (1 - f)), dc * i * ((1 - g) * (1 + g)), dh * t * (o * (1 - o))
    delta = jnp.concatenate(before, -1)
    return (delta @ w, dc * f), delta, (h,)


def lstm_weights(cell: LSTMCell, h: Array, delta: Array, left: Arrays) -> Params:
    return {"w_h": outer_sum(left[0], delta)}


STEPS: dict[type, Steps] = {
    RNNCell: Steps(rnn_forward, rnn_backward, rnn_weights),
    GRUCell: Steps(gru_forward, gru_backward, gru_weights),
    LSTMCell: Steps(lstm_forward, lstm_backward, lstm_weights),
}
