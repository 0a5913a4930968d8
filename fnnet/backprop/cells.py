"""One step of each recurrent cell and its derivative, by hand: what backpropagation through time is made of.

Of a step from ``carry`` to ``after``, with the inputs' part ``z = x w_x + b`` given: ``forward`` leaves ``gates``,
which have the shapes of ``z`` and take its place in memory, and what else is ``kept``; ``backward`` takes the gradients
at ``after`` and ``y`` back to ``carry`` and to ``z``: that is ``delta``, which takes the place of the gates. No weight
gradients in the loop: ``weights`` takes them for all steps at once from what the steps left, as products of matrices
over ``T N`` rows. The letters are those of ``fnnet.cells``.

``z``, gates and delta are tuples of arrays ``(N, ·)``, the columns of ``z`` side by side: apart where a product needs
some of them only, for which XLA would copy them out of a larger array.

Whatever is cheap is computed again, such as ``tanh(c)``: on a CPU memory is time too, as a program gets its arrays from
the system page by page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from fnnet.activations import sigmoid, tanh
from fnnet.backprop.activations import activation_rule
from fnnet.binding import name_of
from fnnet.cells import Carry, GRUCell, LSTMCell, RNNCell
from fnnet.types import Array, Params

Arrays = tuple[Array, ...]


class CellRule(NamedTuple):
    """``widths(cell)``, the columns of each array of ``z``;

    ``forward(cell, params, carry, z) -> (after, y, gates, kept)``, the gates of the shapes of ``z``;

    ``backward(cell, transposed, gates, kept, dafter, dy) -> (dcarry, delta, more)``, with the parameters transposed (it
    is done once, before the loop), ``delta = dz`` and ``more`` what else the next one needs;
    ``weights(cell, kept, delta, more) -> dparams`` of the parameters in ``advance``, all with a time axis first.
    """

    widths: Callable[[Any], tuple[int, ...]]
    forward: Callable[..., tuple[Carry, Array, Arrays, Any]]
    backward: Callable[..., tuple[Carry, Arrays, Any]]
    weights: Callable[..., Params]


CELL_RULES: dict[type, CellRule] = {}


def cell_rule(cell: Any) -> CellRule:
    """The rule of a cell's exact type."""
    try:
        return CELL_RULES[type(cell)]
    except KeyError:
        name = name_of(type(cell))
        raise TypeError(
            f"backprop: {cell!r} has no hand-written rule; add one with fnnet.backprop.CELL_RULES[{name}] = "
            f"fnnet.backprop.CellRule(widths, forward, backward, weights)"
        ) from None


def outer_sum(a: Array, b: Array) -> Array:
    """``Σ aᵀ b`` over time and examples: ``(T, N, A), (T, N, B) -> (A, B)``, one product."""
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


# RNNCell


def rnn_forward(cell: RNNCell, params: Params, carry: Array, z: Arrays) -> tuple[Array, Array, Arrays, Array]:
    a = z[0] + carry @ params["w_h"]
    h = cell.activation(a)
    return h, h, (a,), carry


def rnn_backward(
    cell: RNNCell, transposed: Params, gates: Arrays, kept: Array, dafter: Array, dy: Array
) -> tuple[Array, Arrays, None]:
    """h = f(a) with a = z + h₋ w_h, y = h  ⇒  δ = f'(a) ⊙ (dh + dy),  dz = δ,  dh₋ = δ w_hᵀ."""
    rule, options = activation_rule(cell.activation)
    _, residual = rule.forward(gates[0], **options)
    delta = rule.backward(residual, dafter + dy, **options)
    return delta @ transposed["w_h"], (delta,), None


def rnn_weights(cell: RNNCell, kept: Array, delta: Arrays, more: None) -> Params:
    """dw_h = Σ_t h₋ᵀ δ_t."""
    return {"w_h": outer_sum(kept, delta[0])}


# GRUCell


def gru_forward(
    cell: GRUCell, params: Params, carry: Array, z: Arrays
) -> tuple[Array, Array, Arrays, tuple[Array, Array]]:
    h, w_h, width = carry, params["w_h"], cell.features
    z_ru, z_n = z
    if cell.reset_after:
        a = h @ w_h
        ru = sigmoid(z_ru + a[:, : 2 * width])
        q = a[:, 2 * width :] + params["b_h"]
        n = tanh(z_n + ru[:, :width] * q)
    else:
        ru = sigmoid(z_ru + h @ w_h[:, : 2 * width])
        q = ru[:, :width] * h
        n = tanh(z_n + q @ w_h[:, 2 * width :])
    after = n + ru[:, width:] * (h - n)
    return after, after, (ru, n), (h, q)


def gru_backward(
    cell: GRUCell, transposed: Params, gates: Arrays, kept: tuple[Array, Array], dafter: Array, dy: Array
) -> tuple[Array, Arrays, Array | None]:
    """h = n + u ⊙ (h₋ − n)  ⇒  with dh all that comes in:  du = dh ⊙ (h₋ − n),  dn = dh ⊙ (1 − u),  dh₋ = dh ⊙ u + ...

    With δ the gradients before the gates' functions, δ_u = u (1 − u) ⊙ du, δ_n = (1 − n²) ⊙ dn, δ_r = r (1 − r) ⊙ dr:
    reset after, n = tanh(z_n + r ⊙ q) with q = h₋ w_hn + b_h:  dr = q ⊙ δ_n,  dq = r ⊙ δ_n,
    dh₋ = dh ⊙ u + [δ_r, δ_u, dq] w_hᵀ;  reset before, n = tanh(z_n + q w_hn) with q = r ⊙ h₋:  dq = δ_n w_hnᵀ,
    dr = h₋ ⊙ dq,  dh₋ = dh ⊙ u + r ⊙ dq + [δ_r, δ_u] w_h(r,u)ᵀ.
    """
    ru, n = gates
    r, u = jnp.split(ru, 2, -1)
    (h, q), w, width = kept, transposed["w_h"], cell.features
    dh = dafter + dy
    delta_u = dh * (h - n) * (u * (1 - u))
    delta_n = dh * (1 - u) * ((1 - n) * (1 + n))
    if cell.reset_after:
        dq = r * delta_n
        delta_ru = jnp.concatenate([q * delta_n * (r * (1 - r)), delta_u], -1)
        dcarry = dh * u + jnp.concatenate([delta_ru, dq], -1) @ w
        return dcarry, (delta_ru, delta_n), dq
    dq = delta_n @ w[2 * width :]
    delta_ru = jnp.concatenate([h * dq * (r * (1 - r)), delta_u], -1)
    return dh * u + r * dq + delta_ru @ w[: 2 * width], (delta_ru, delta_n), None


def gru_weights(cell: GRUCell, kept: tuple[Array, Array], delta: Arrays, more: Array | None) -> Params:
    """dw_h = Σ_t h₋ᵀ [δ_r, δ_u, dq],  db_h = Σ_t dq;  reset before, dw_hn = Σ_t (r ⊙ h₋)ᵀ δ_n."""
    h, q = kept
    delta_ru, delta_n = delta
    if more is None:
        return {"w_h": jnp.concatenate([outer_sum(h, delta_ru), outer_sum(q, delta_n)], -1)}
    return {"w_h": jnp.concatenate([outer_sum(h, delta_ru), outer_sum(h, more)], -1), "b_h": more.sum((0, 1))}


# LSTMCell


def lstm_forward(
    cell: LSTMCell, params: Params, carry: tuple[Array, Array], z: Arrays
) -> tuple[tuple[Array, Array], Array, Arrays, tuple[Array, Array]]:
    h, c = carry
    i, f, g, o = jnp.split(z[0] + h @ params["w_h"], 4, -1)
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    after = f * c + i * g
    y = o * tanh(after)
    return (y, after), y, (jnp.concatenate([i, f, g, o], -1),), (h, c)


def lstm_backward(
    cell: LSTMCell, transposed: Params, gates: Arrays, kept: tuple[Array, Array], dafter: tuple[Array, Array], dy: Array
) -> tuple[tuple[Array, Array], Arrays, None]:
    """c = f ⊙ c₋ + i ⊙ g, h = o ⊙ t with t = tanh(c)  ⇒  with dh all that comes in at h,

    do = dh ⊙ t,  dc += dh ⊙ o ⊙ (1 − t²);  di = dc ⊙ g,  df = dc ⊙ c₋,  dg = dc ⊙ i,  dc₋ = dc ⊙ f;
    δ = [i (1 − i) di, f (1 − f) df, (1 − g²) dg, o (1 − o) do],  dz = δ,  dh₋ = δ w_hᵀ.
    """
    i, f, g, o = jnp.split(gates[0], 4, -1)
    _, c = kept
    t = tanh(f * c + i * g)
    dh, dc = dafter[0] + dy, dafter[1]
    dc = dc + dh * o * ((1 - t) * (1 + t))
    delta = jnp.concatenate(
        [
            dc * g * (i * (1 - i)),
            dc * c * (f * (1 - f)),
            dc * i * ((1 - g) * (1 + g)),
            dh * t * (o * (1 - o)),
        ],
        -1,
    )
    return (delta @ transposed["w_h"], dc * f), (delta,), None


def lstm_weights(cell: LSTMCell, kept: tuple[Array, Array], delta: Arrays, more: None) -> Params:
    """dw_h = Σ_t h₋ᵀ δ_t."""
    return {"w_h": outer_sum(kept[0], delta[0])}


CELL_RULES[RNNCell] = CellRule(lambda cell: (cell.features,), rnn_forward, rnn_backward, rnn_weights)
CELL_RULES[GRUCell] = CellRule(lambda cell: (2 * cell.features, cell.features), gru_forward, gru_backward, gru_weights)
CELL_RULES[LSTMCell] = CellRule(lambda cell: (4 * cell.features,), lstm_forward, lstm_backward, lstm_weights)
