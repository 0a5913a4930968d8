"""Truncated and checkpointed backpropagation through time, against loops over single steps."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnnet
from fnnet import Checkpointed, Cost, Dense, GRUCell, LSTMCell, Recurrent, RNNCell, Truncated, backprop, losses
from fnnet.backprop import scan_vjp
from fnnet.cells import Cell
from tests.cases import random_params
from tests.compare import assert_close

CELLS: dict[str, Cell] = {
    "rnn": RNNCell(3),
    "gru": GRUCell(3),
    "gru, reset before": GRUCell(3, reset_after=False),
    "lstm": LSTMCell(3),
}
every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=list(CELLS))
STEPS = 7
MASK = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0]], bool)


def random_like(tree: Any, seed: int = 1) -> Any:
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(generator.standard_normal(a.shape)), tree)


def arrays_for(cell: Cell, steps: int = STEPS) -> tuple[Any, jax.Array, Any]:
    x = random_like(jnp.zeros((3, steps, 2)), 0)
    return random_params(Recurrent(cell), x), x, random_like(cell.initial_carry(3, x.dtype), 2)


def truncated_loop(layer: Recurrent, k1: int, k2: int, arguments: Any, mask: np.ndarray, dy: Any, dcarry: Any) -> Any:
    """``(dparams, dx, dcarry)``: the sum over the passes, each a loop of single steps back to a constant carry."""
    params, x, carry = arguments
    steps = x.shape[1]
    order = range(steps)[::-1] if layer.reverse else range(steps)

    def masked(params: Any, carry: Any, x: Any, here: Any) -> Any:
        after, y = layer.cell.step(params, carry, x)
        return jax.tree.map(lambda a, b: jnp.where(here[:, None], a, b), after, carry), jnp.where(here[:, None], y, 0)

    step = jax.jit(masked)
    back = jax.jit(lambda *given: jax.vjp(lambda p, c, x: masked(p, c, x, given[3]), *given[:3])[1](given[4]))
    carries = [carry]
    for t in order:
        carries.append(step(params, carries[-1], x[:, t], mask[:, t])[0])
    dys = np.zeros((len(x), steps, layer.cell.features))
    if layer.return_sequences:
        dys[:] = dy
    else:
        for n in range(len(x)):
            for t in [t for t in order if mask[n, t]][-1:]:
                dys[n, t] = dy[n]
    zeros = jax.tree.map(lambda a: np.zeros(a.shape), arguments)
    dparams, dx, dstart = zeros
    for end in range(k1, steps + k1, k1):
        delta = dcarry if end >= steps else zeros[2]
        for place in range(min(end, steps) - 1, max(end - k2, 0) - 1, -1):
            t = order[place]
            own = dys[:, t] * (place >= end - k1)
            dp, delta, dxt = back(params, carries[place], x[:, t], mask[:, t], (delta, own))
            dparams = jax.tree.map(np.add, dparams, dp)
            dx[:, t] += dxt
        if end <= k2:
            dstart = jax.tree.map(np.add, dstart, delta)
    return jax.tree.map(jnp.asarray, (dparams, dx, dstart))


def check(layer: Any, arguments: Any, mask: Any, expected: Any) -> None:
    """Values are the plain layer's, and the gradients of both engines ``expected(dy, dcarry)``."""
    plain = layer.layer

    def all_of_them(arguments: Any, cotangents: Any) -> Any:
        by_autodiff, pullback = jax.vjp(lambda *arguments: layer.scan(*arguments, mask), *arguments)
        by_hand, pullback_by_hand = scan_vjp(layer, *arguments, mask)
        values = plain.scan(*arguments, mask), layer.scan(*arguments, mask), by_autodiff, by_hand
        return values, (pullback(cotangents), pullback_by_hand(*cotangents))

    cotangents = random_like(jax.eval_shape(lambda: plain.scan(*arguments, mask)))
    (value, *values), gradients = jax.jit(all_of_them)(arguments, cotangents)
    for one in values:
        assert_close(one, value, 1e-14)
    for one in gradients:
        assert_close(one, expected(*cotangents), 1e-12)


# Pieces, overlapping passes, k2 no multiple of k1, T no multiple of k1, all of T, more than T.
LENGTHS = [(7, 7), (1, 1), (3, 3), (2, 4), (3, 5), (1, 7), (4, 20)]
WAYS = [(True, True, True), (False, False, True), (False, True, False)]  # sequences, reverse, masked


@pytest.mark.parametrize(
    ("cell", "lengths", "way"),
    [
        *((CELLS["rnn"], lengths, (True, False, False)) for lengths in LENGTHS),
        *((CELLS["gru"], (3, 5), way) for way in WAYS),
        *((CELLS["lstm"], (3, 4), way) for way in WAYS[1:]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("x64")
def test_truncation_is_a_loop_with_constant_carries(cell: Cell, lengths: tuple[int, int], way: Any) -> None:
    sequences, reverse, masked = way
    layer = Truncated(Recurrent(cell, sequences, reverse), *lengths)
    arguments, mask = arrays_for(cell), MASK if masked else np.ones((3, STEPS), bool)

    def expected(dy: Any, dcarry: Any) -> Any:
        return truncated_loop(layer.layer, *lengths, arguments, mask, dy, dcarry)

    check(layer, arguments, jnp.asarray(mask) if masked else None, expected)


@pytest.mark.parametrize(
    ("cell", "segment", "way"),
    [
        (CELLS["rnn"], None, (True, False, False)),
        (CELLS["rnn"], 20, (True, False, False)),
        (CELLS["gru, reset before"], 1, (True, False, True)),
        *((cell, 3, way) for cell in (CELLS["gru"], CELLS["lstm"]) for way in WAYS),
    ],
    ids=str,
)
@pytest.mark.usefixtures("x64")
def test_checkpointed_equals_plain(cell: Cell, segment: int | None, way: Any) -> None:
    sequences, reverse, masked = way
    plain = Recurrent(cell, sequences, reverse)
    arguments, mask = arrays_for(cell), jnp.asarray(MASK) if masked else None
    _, pullback = jax.vjp(lambda *arguments: plain.scan(*arguments, mask), *arguments)
    check(Checkpointed(plain, segment), arguments, mask, lambda dy, dcarry: pullback((dy, dcarry)))
