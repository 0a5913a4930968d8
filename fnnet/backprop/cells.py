"""One step of each recurrent cell and its derivative, by hand: what backpropagation through time is made of.

Of a step from ``carry`` to ``after``, with the inputs' part ``z = x w_x + b`` given: ``forward`` leaves ``gates``,
which have the shapes of ``z``, and what else is ``kept``; ``backward`` takes the gradients at ``after`` and ``y`` back
to ``carry`` and to ``z``: that is ``delta``. No weight gradients in the loop: ``weights`` takes them for all steps at
once from what the steps left, as products of matrices over ``T N`` rows. The letters are those of ``fnnet.cells``.

On a CPU memory is time too, as a program gets its arrays from the system page by page. So in the arrays of all steps
the gates take the place of ``z`` and delta that of the gates; what ``weights`` needs besides takes the place of what
was kept; ``h``, the output of the step before, is not kept at all where the layer's outputs hold it; and whatever is
cheap is computed again, such as ``tanh(c)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from fnnet.activations import sigmoid, tanh
from fnnet.backprop.activations import activation_rule
from fnnet.backprop.rule import Table
from fnnet.cells import Carry, GRUCell, LSTMCell, RNNCell
from fnnet.types import Array, Params

Arrays = tuple[Array, ...]


class CellRule(NamedTuple):
    """``output(carry)``, the ``y`` of the step that left it;

    ``forward(cell, params, carry, z) -> (after, gates, kept)``, the gates of the shape of ``z``, ``kept`` a tuple;

    ``backward(cell, transposed, h, gates, kept, dafter, dy) -> (dcarry, delta, left)``, with the parameters transposed
    (it is done once, before the loop), ``h = output(carry)``, ``delta = dz`` and ``left`` of the shapes of ``kept``;
    ``weights(cell, h, delta, left) -> dparams`` of the parameters in ``advance``, from arrays ``(N, T, ·)``.

    A rule is of ``Cell.advance`` alone. ``Cell.project`` is taken to be ``x w_x + b`` of parameters with these names,
    and its derivative is part of the layer's rule.
    """

    output: Callable[[Carry], Array]
    forward: Callable[..., tuple[Carry, Array, Arrays]]
    backward: Callable[..., tuple[Carry, Array, Arrays]]
    weights: Callable[..., Params]


CELL_RULES: Table[CellRule] = Table("cell", "CELL_RULES", "fnnet.backprop.CellRule(output, forward, backward, weights)")


def outer_sum(a: Array, b: Array) -> Array:
    """``Σ aᵀ b`` over examples and time: ``(N, T, A), (N, T, B) -> (A, B)``, one product."""
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


# RNNCell


def rnn_forward(cell: RNNCell, params: Params, carry: Array, z: Array) -> tuple[Array, Array, Arrays]:
    a = z + carry @ params["w_h"]
    return cell.activation(a), a, ()


def rnn_backward(
    cell: RNNCell, transposed: Params, h: Array, gates: Array, kept: Arrays, dafter: Array, dy: Array
) -> tuple[Array, Array, Arrays]:
    """h = f(a) with a = z + h₋ w_h, y = h  ⇒  δ = f'(a) ⊙ (dh + dy),  dz = δ,  dh₋ = δ w_hᵀ."""
    rule, options = activation_rule(cell.activation)
    _, residual = rule.forward(gates, **options)
    delta = rule.backward(residual, dafter + dy, **options)
    return delta @ transposed["w_h"], delta, ()


def rnn_weights(cell: RNNCell, h: Array, delta: Array, left: Arrays) -> Params:
    """dw_h = Σ_t h₋ᵀ δ_t."""
    return {"w_h": outer_sum(h, delta)}


# GRUCell


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
    cell: GRUCell, transposed: Params, h: Array, gates: Array, kept: Arrays, dafter: Array, dy: Array
) -> tuple[Array, Array, Arrays]:
    """h = n + u ⊙ (h₋ − n)  ⇒  with dh all that comes in:  du = dh ⊙ (h₋ − n),  dn = dh ⊙ (1 − u),  dh₋ = dh ⊙ u + ...

    With δ the gradients before the gates' functions, δ_u = u (1 − u) ⊙ du, δ_n = (1 − n²) ⊙ dn, δ_r = r (1 − r) ⊙ dr:
    reset after, n = tanh(z_n + r ⊙ q) with q = h₋ w_hn + b_h:  dr = q ⊙ δ_n,  dq = r ⊙ δ_n,
    dh₋ = dh ⊙ u + [δ_r, δ_u, dq] w_hᵀ, and dq is left;  reset before, n = tanh(z_n + q w_hn) with q = r ⊙ h₋:
    dq = δ_n w_hnᵀ,  dr = h₋ ⊙ dq,  dh₋ = dh ⊙ u + r ⊙ dq + [δ_r, δ_u] w_h(r,u)ᵀ, and q is left.
    """
    r, u, n = jnp.split(gates, 3, -1)
    (q,), w, two = kept, transposed["w_h"], 2 * cell.features
    dh = dafter + dy
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
    """dw_h = Σ_t h₋ᵀ [δ_r, δ_u, dq],  db_h = Σ_t dq;  reset before, dw_hn = Σ_t (r ⊙ h₋)ᵀ δ_n."""
    two = 2 * cell.features
    if not cell.reset_after:
        return {"w_h": jnp.concatenate([outer_sum(h, delta[..., :two]), outer_sum(left[0], delta[..., two:])], -1)}
    # The product with δ_n too, to be left out: less than to copy δ_r and δ_u of all steps out of delta.
    gates, dq = outer_sum(h, delta)[:, :two], left[0]
    return {"w_h": jnp.concatenate([gates, outer_sum(h, dq)], -1), "b_h": dq.sum((0, 1))}


# LSTMCell


def lstm_forward(
    cell: LSTMCell, params: Params, carry: tuple[Array, Array], z: Array
) -> tuple[tuple[Array, Array], Array, Arrays]:
    h, c = carry
    i, f, g, o = jnp.split(z + h @ params["w_h"], 4, -1)
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    after = f * c + i * g
    return (o * tanh(after), after), jnp.concatenate([i, f, g, o], -1), (c,)


def lstm_backward(
    cell: LSTMCell,
    transposed: Params,
    h: Array,
    gates: Array,
    kept: Arrays,
    dafter: tuple[Array, Array],
    dy: Array,
) -> tuple[tuple[Array, Array], Array, Arrays]:
    """c = f ⊙ c₋ + i ⊙ g, h = o ⊙ t with t = tanh(c)  ⇒  with dh all that comes in at h,

    do = dh ⊙ t,  dc += dh ⊙ o ⊙ (1 − t²);  di = dc ⊙ g,  df = dc ⊙ c₋,  dg = dc ⊙ i,  dc₋ = dc ⊙ f;
    δ = [i (1 − i) di, f (1 − f) df, (1 − g²) dg, o (1 − o) do],  dz = δ,  dh₋ = δ w_hᵀ.

    h₋ is left in the place of c₋, for dw_h, which then needs no copy of the outputs shifted by a step.
    """
    i, f, g, o = jnp.split(gates, 4, -1)
    (c,) = kept
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
    return (delta @ transposed["w_h"], dc * f), delta, (h,)


def lstm_weights(cell: LSTMCell, h: Array, delta: Array, left: Arrays) -> Params:
    """dw_h = Σ_t h₋ᵀ δ_t."""
    return {"w_h": outer_sum(left[0], delta)}


def whole(carry: Array) -> Array:
    return carry


def first(carry: tuple[Array, Array]) -> Array:
    return carry[0]


CELL_RULES[RNNCell] = CellRule(whole, rnn_forward, rnn_backward, rnn_weights)
CELL_RULES[GRUCell] = CellRule(whole, gru_forward, gru_backward, gru_weights)
CELL_RULES[LSTMCell] = CellRule(first, lstm_forward, lstm_backward, lstm_weights)
