"""Faults in the rules of attention, embeddings and positions.

The healthy rules are: attention has ``dv_j = Σ_i p_ij do_i``, ``ds_ij = p_ij (dp_ij − Σ_k p_ik dp_ik)`` with
``dp_ij = do_i · v_j``, ``dq_i = Σ_j ds_ij k_j / √d`` and ``dk_j = Σ_i ds_ij q_i / √d``; rotary attention rotates ``dq``
and ``dk`` back. ``Embedding`` sums ``dy`` over the positions of a token, ``LearnedPositions`` over the examples.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.mutations.layers import after
from experiments.mutations.mutant import EXAMPLES, Broken, Draw, Fault, Mutant, Subject, labels, normal
from fnnet import Cost, Dense, Embedding, GlobalAvgPool, LearnedPositions, MultiHeadAttention, losses, sequential
from fnnet.backprop import RULES
from fnnet.layers.positions import rotate
from fnnet.types import Array, Params


@cache
def tokens(entries: int, *shape: int) -> Draw:
    return lambda rng: rng.integers(0, entries, shape).astype(np.int32)


PLAIN = Subject("MultiHeadAttention", MultiHeadAttention(2, block=2), normal(2, 5, 4))
CAUSAL = Subject("MultiHeadAttention, causal", MultiHeadAttention(2, causal=True, block=2), normal(2, 5, 4))
ROTARY = Subject("MultiHeadAttention, rotary", MultiHeadAttention(2, rotary=True), normal(2, 4, 4))
EMBEDDED = Subject(
    "Embedding",
    Cost(sequential(Embedding(4, 3), GlobalAvgPool(), Dense(3)), losses.softmax_cross_entropy),
    tokens(4, EXAMPLES, 5),
    labels(3),
)
POSITIONS = Subject("LearnedPositions", LearnedPositions(5), normal(3, 4, 2))


class Attended(NamedTuple):
    """The quantities of attention's backward pass; rows of ``p`` and ``dp`` are queries, columns are keys."""

    p: Array
    dp: Array
    q: Array
    k: Array
    v: Array
    do: Array


def healthy_ds(at: Attended) -> Array:
    return at.p * (at.dp - (at.p * at.dp).sum(-1, keepdims=True))


def healthy_dv(at: Attended) -> Array:
    return jnp.einsum("nhij,nihd->njhd", at.p, at.do)


def plainly(
    *, ds: Broken = healthy_ds, dv: Broken = healthy_dv, scale: float = 0.5**0.5, seen: bool = True, turn: Any = None
) -> Fault:
    """Return the rule of attention, written with all scores at once, in which the given formulas are replaced.

    ``ds`` and ``dv`` are functions of ``Attended``. ``scale`` is 1 / √d for two features per head. ``seen=False`` lets
    the backward pass see later keys. ``turn`` replaces the inverse rotation.
    """

    def backward(layer: Any, params: Params, residuals: Any, dy: Array) -> tuple[Params, Array]:
        x, _, o, (q, k, v, *_) = residuals
        steps = x.shape[1]
        s = jnp.einsum("nihd,njhd->nhij", q, k) / jnp.sqrt(jnp.asarray(q.shape[-1], x.dtype))
        later = jnp.triu(jnp.ones((steps, steps), bool), 1) & layer.causal
        log_sum = jnp.log(jnp.where(later, 0, jnp.exp(s)).sum(-1, keepdims=True))
        p = jnp.exp(s - log_sum)
        do = (dy @ params["w_o"].T).reshape(o.shape)
        at = Attended(jnp.where(later & seen, 0, p), jnp.einsum("nihd,njhd->nhij", do, v), q, k, v, do)
        dq, dk = (jnp.einsum(f"nh{ij},njhd->nihd", ds(at), a) * scale for ij, a in (("ij", k), ("ji", q)))
        if layer.rotary:
            dq, dk = (turn(a) if turn else rotate(a, back=True) for a in (dq, dk))
        flat = {name: a.reshape(*x.shape[:2], -1) for name, a in (("q", dq), ("k", dk), ("v", dv(at)))}
        dparams = {f"w_{name}": jnp.einsum("ntd,nth->dh", x, a) for name, a in flat.items()}
        dparams["w_o"] = jnp.einsum("nth,ntd->hd", o.reshape(*x.shape[:2], -1), dy)
        dparams |= {name: a.sum((0, 1)) for name, a in (("b_q", flat["q"]), ("b_v", flat["v"]), ("b_o", dy))}
        return dparams, sum(a @ params[f"w_{name}"].T for name, a in flat.items())

    return lambda rule: rule._replace(backward=backward)


def of_param(name: str, change: Broken) -> Fault:
    return after(lambda dparams, dx: (dparams | {name: change(dparams[name])}, dx))


def no_inner_sum(at: Attended) -> Array:
    return at.p * at.dp


def inner_sum_of_all_heads(at: Attended) -> Array:
    return at.p * (at.dp - (at.p * at.dp).sum((1, 3), keepdims=True))


def sum_over_queries(at: Attended) -> Array:
    return at.p * (at.dp - (at.p * at.dp).sum(-2, keepdims=True))


def values_from(weights: Broken) -> Broken:
    return lambda at: jnp.einsum("nhij,nihd->njhd", weights(at), at.do)


def forgets_last_step(rule: Any) -> Any:
    def backward(layer: Any, params: Params, residuals: Any, dy: Array) -> Any:
        return rule.backward(layer, params, residuals, dy.at[:, -1].set(0))

    return rule._replace(backward=backward)


def table(change: Broken) -> Fault:
    """Return the fault that gives the rule of ``Embedding`` ``dtable = change(zeros, tokens, dy)``."""

    def fault(rule: Any) -> Any:
        def backward(layer: Any, params: Params, tokens: Array, dy: Array) -> Any:
            _, dx = rule.backward(layer, params, tokens, dy)
            return {"table": change(jnp.zeros_like(params["table"]), tokens, dy)}, dx

        return rule._replace(backward=backward)

    return fault


def mean_of_places(zeros: Array, tokens: Array, dy: Array) -> Array:
    counts = zeros.at[tokens].add(1)
    return zeros.at[tokens].add(dy) / jnp.maximum(counts, 1)


def mutant(name: str, subject: Subject, fault: Fault, entry: type | None = None) -> Mutant:
    return Mutant(f"{subject.name}: {name}", subject, RULES, entry or type(subject.model), fault)


MUTANTS = (
    mutant("Σ p dp forgotten", PLAIN, plainly(ds=no_inner_sum)),
    mutant("Σ p dp of all heads together", PLAIN, plainly(ds=inner_sum_of_all_heads)),
    mutant("Σ p dp over the queries", PLAIN, plainly(ds=sum_over_queries)),
    mutant("ds as if the softmax were a sigmoid", PLAIN, plainly(ds=lambda at: at.dp * at.p * (1 - at.p))),
    mutant("1 / √d forgotten", PLAIN, plainly(scale=1.0)),
    mutant("1 / d instead of 1 / √d", PLAIN, plainly(scale=0.5)),
    mutant("dv from p instead of its transpose", PLAIN, plainly(dv=values_from(lambda at: at.p.swapaxes(-1, -2)))),
    mutant("dv from ds instead of p", PLAIN, plainly(dv=values_from(healthy_ds))),
    mutant("db_q zero", PLAIN, of_param("b_q", jnp.zeros_like)),
    mutant("dw_o of the other head", PLAIN, of_param("w_o", lambda dw: jnp.roll(dw, 2, 0))),
    mutant("dw_q and dw_k swapped", PLAIN, after(lambda p, dx: (p | {"w_q": p["w_k"], "w_k": p["w_q"]}, dx))),
    mutant("the last step forgotten", PLAIN, forgets_last_step),
    mutant("later keys seen in the backward pass", CAUSAL, plainly(seen=False)),
    mutant("not rotated back", ROTARY, plainly(turn=lambda a: a)),
    mutant("rotated forwards again", ROTARY, plainly(turn=rotate)),
    mutant("only the last position", EMBEDDED, table(lambda zeros, x, dy: zeros.at[x].set(dy)), Embedding),
    mutant("mean instead of sum", EMBEDDED, table(mean_of_places), Embedding),
    mutant("the next token", EMBEDDED, table(lambda zeros, x, dy: zeros.at[(x + 1) % 4].add(dy)), Embedding),
    mutant("a mean over the examples", POSITIONS, of_param("table", lambda dtable: dtable / 3)),
    mutant("the next position", POSITIONS, of_param("table", lambda dtable: jnp.roll(dtable, 1, 0))),
)
