"""One step of backpropagation through time for each recurrent cell, derived by hand.

A rule is ``step_backward(cell, params, carry, x, dafter, dy) -> (dparams, dcarry, dx)``: the transposed derivative of
``cell.step(params, carry, x) -> (after, y)``, applied to the gradients with respect to ``after`` and ``y``. It computes
the gates again from the carry. ``fnnet.backprop.layers.recurrent`` runs it from the last step to the first.

Letters are those of ``fnnet.layers.cells``; δ stands for the gradient with respect to the argument of a gate's
function, ``dh`` for all that arrives at the output, ``dafter + dy``.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from fnnet.activations import sigmoid, tanh
from fnnet.backprop.activations import activation_rule
from fnnet.backprop.rule import Table
from fnnet.layers.cells import Carry, GRUCell, LSTMCell, RNNCell
from fnnet.types import Array, Params

CellRule = Callable[..., tuple[Params, Carry, Array]]
StepGradients = tuple[Params, Array, Array]


def rnn_backward(cell: RNNCell, params: Params, h: Array, x: Array, dafter: Array, dy: Array) -> StepGradients:
    """h' = f(a) with a = x w_x + h w_h + b  ⇒  δ = f'(a) ⊙ dh,  and as in ``back_to_operands``

    dw_x = xᵀ δ,  dw_h = hᵀ δ,  db = Σ_n δ;  δ w_hᵀ goes to h,  δ w_xᵀ to x.
    """
    rule, options = activation_rule(cell.activation)
    _, residual = rule.forward(x @ params["w_x"] + h @ params["w_h"] + params["b"], **options)
    delta = rule.backward(residual, dafter + dy, **options)
    return back_to_operands(params, h, x, delta)


def gru_backward(cell: GRUCell, params: Params, h: Array, x: Array, dafter: Array, dy: Array) -> StepGradients:
    """h' = n + u ⊙ (h − n)  ⇒  du = dh ⊙ (h − n),  dn = dh ⊙ (1 − u),  and dh ⊙ u goes to h;

    r = σ(a_r), u = σ(a_u), n = tanh(a_n)  ⇒  δ_r = r (1 − r) ⊙ dr,  δ_u = u (1 − u) ⊙ du,  δ_n = (1 − n²) ⊙ dn.
    Reset after:  a_n = x w_xn + b_n + r ⊙ q,  q = h w_hn + b_h  ⇒  dr = q ⊙ δ_n,  dq = r ⊙ δ_n,
    dw_hn = hᵀ dq,  db_h = Σ_n dq,  and dq w_hnᵀ goes to h.
    Reset before:  a_n = x w_xn + b_n + q w_hn,  q = r ⊙ h  ⇒  dq = δ_n w_hnᵀ,  dr = h ⊙ dq,
    dw_hn = qᵀ δ_n,  and r ⊙ dq goes to h.  The other products are those of ``rnn_backward``.
    """
    two, dh = 2 * cell.features, dafter + dy
    z_ru, z_n = jnp.split(x @ params["w_x"] + params["b"], [two], -1)
    w_ru, w_n = jnp.split(params["w_h"], [two], -1)
    r, u = jnp.split(sigmoid(z_ru + h @ w_ru), 2, -1)
    q = h @ w_n + params["b_h"] if cell.reset_after else r * h
    n = tanh(z_n + (r * q if cell.reset_after else q @ w_n))
    delta_u, delta_n = u * (1 - u) * dh * (h - n), (1 - n**2) * dh * (1 - u)
    if cell.reset_after:
        dq, dr = r * delta_n, q * delta_n
        dw_n, to_h, db_h = h.T @ dq, dq @ w_n.T, {"b_h": dq.sum(0)}
    else:
        dq = delta_n @ w_n.T
        dr, dw_n, to_h, db_h = h * dq, q.T @ delta_n, r * dq, {}
    delta_ru = jnp.concatenate([r * (1 - r) * dr, delta_u], -1)
    delta = jnp.concatenate([delta_ru, delta_n], -1)
    dparams = {"w_x": x.T @ delta, "w_h": jnp.concatenate([h.T @ delta_ru, dw_n], -1), "b": delta.sum(0), **db_h}
    return dparams, dh * u + to_h + delta_ru @ w_ru.T, delta @ params["w_x"].T


def lstm_backward(
    cell: LSTMCell, params: Params, carry: tuple[Array, Array], x: Array, dafter: tuple[Array, Array], dy: Array
) -> tuple[Params, tuple[Array, Array], Array]:
    """c' = f ⊙ c + i ⊙ g,  h' = o ⊙ t with t = tanh(c')  ⇒  with dh all that arrives at h':

    do = dh ⊙ t,  dc' += dh ⊙ o ⊙ (1 − t²);  di = dc' ⊙ g,  df = dc' ⊙ c,  dg = dc' ⊙ i,  dc = dc' ⊙ f;
    δ = [i (1 − i) di, f (1 − f) df, (1 − g²) dg, o (1 − o) do],  and the products are those of ``rnn_backward``.
    """
    h, c = carry
    i, f, g, o = jnp.split(x @ params["w_x"] + h @ params["w_h"] + params["b"], 4, -1)
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    t = tanh(f * c + i * g)
    dh = dafter[0] + dy
    dc = dafter[1] + dh * o * (1 - t**2)
    gates = i * (1 - i) * dc * g, f * (1 - f) * dc * c, (1 - g**2) * dc * i, o * (1 - o) * dh * t
    dparams, dh, dx = back_to_operands(params, h, x, jnp.concatenate(gates, -1))
    return dparams, (dh, dc * f), dx


def back_to_operands(params: Params, h: Array, x: Array, delta: Array) -> StepGradients:
    """a = x w_x + h w_h + b  ⇒  dw_x = xᵀ δ,  dw_h = hᵀ δ,  db = Σ_n δ,  dh = δ w_hᵀ,  dx = δ w_xᵀ."""
    dparams = {"w_x": x.T @ delta, "w_h": h.T @ delta, "b": delta.sum(0)}
    return dparams, delta @ params["w_h"].T, delta @ params["w_x"].T


CELL_RULES: Table[CellRule] = Table("cell", "CELL_RULES", "step_backward")
CELL_RULES |= {RNNCell: rnn_backward, GRUCell: gru_backward, LSTMCell: lstm_backward}
