"""Truncated and checkpointed backpropagation through time equal loops over single steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Bidirectional,
    Cost,
    Dense,
    GRUCell,
    LSTMCell,
    Recurrent,
    Rematerialized,
    Truncated,
    backprop,
    losses,
    sequential,
)
from fnnet.backprop import scan_vjp
from fnnet.layers.cells import Cell
from tests.cases import CELLS, random_like, random_params
from tests.compare import assert_close
from tests.shards import assert_sharded_alike

STEPS = 7
MASK = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0]], bool)


def arrays_for(cell: Cell, steps: int = STEPS) -> tuple[Any, jax.Array, Any]:
    x = random_like(jnp.zeros((3, steps, 2)), 0)
    return random_params(Recurrent(cell), x), x, random_like(cell.initial_carry(3, x.dtype), 2)


def truncated_loop(layer: Recurrent, k1: int, k2: int, arguments: Any, mask: np.ndarray, dy: Any, dcarry: Any) -> Any:
    """Return ``(dparams, dx, dcarry)``, summed over passes that are loops of single steps to a constant carry."""
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
    """Check that values equal those of ``layer.layer``, and gradients of both engines ``expected(dy, dcarry)``."""
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


# Separate and overlapping passes; k2 is no multiple of k1, T is no multiple of k1, k2 is more than T.
LENGTHS = [(1, 1), (3, 3), (2, 4), (3, 5), (4, 20)]
WAYS = [(True, True, True), (False, False, True), (False, True, False)]  # sequences, reverse, masked


@pytest.mark.parametrize(
    ("cell", "lengths", "way"),
    [
        *((CELLS["rnn"], lengths, (True, False, False)) for lengths in LENGTHS),
        *((CELLS["gru"], (3, 5), way) for way in WAYS),
        (CELLS["lstm"], (3, 4), WAYS[1]),
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
        (CELLS["gru"], 3, WAYS[0]),
        *((CELLS["lstm"], 3, way) for way in WAYS),
    ],
    ids=str,
)
@pytest.mark.usefixtures("x64")
def test_rematerialized_equals_plain(cell: Cell, segment: int | None, way: Any) -> None:
    sequences, reverse, masked = way
    plain = Recurrent(cell, sequences, reverse)
    arguments, mask = arrays_for(cell), jnp.asarray(MASK) if masked else None
    _, pullback = jax.vjp(lambda *arguments: plain.scan(*arguments, mask), *arguments)
    check(Rematerialized(plain, segment), arguments, mask, lambda dy, dcarry: pullback((dy, dcarry)))


@pytest.mark.usefixtures("x64")
def test_a_truncated_stack_equals_the_stack_on_segments() -> None:
    """With k1 = k2 every layer is cut at the same steps, so the gradient is that of segments with constant carries."""
    k = 3
    layers = Recurrent(LSTMCell(3)), Recurrent(GRUCell(4))
    model = sequential(*(Truncated(layer, k) for layer in layers), Dense(2))
    x, target = random_like(jnp.zeros((2, 8, 2)), 0), random_like(jnp.zeros((2, 8, 2)), 1)
    cost, params = Cost(model, losses.squared_error), random_params(model, x)

    def in_pieces(params: Any) -> jax.Array:
        carries: list[Any] = [None, None]
        outputs = []
        for start in range(0, 8, k):
            y = x[:, start : start + k]
            for i, layer in enumerate(layers):
                y, carry = layer.scan(params[i], y, carries[i])
                carries[i] = jax.lax.stop_gradient(carry)
            outputs.append(Dense(2).apply(params[2], y))
        return losses.squared_error(jnp.concatenate(outputs, 1), target).mean()

    expected = jax.jit(jax.grad(in_pieces))(params)
    assert_close(jax.jit(backprop.grad(cost))(params, (x, target)), expected)
    assert_close(jax.jit(jax.grad(cost))(params, (x, target)), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "layer", [Rematerialized(Recurrent(GRUCell(3)), 2), Truncated(Recurrent(GRUCell(3)), 2, 3)], ids=str
)
def test_dtypes_are_kept(layer: Any, dtype: str) -> None:
    x = jnp.ones((2, 5, 2), dtype)
    params = layer.init(jax.random.key(0), x)

    def run() -> Any:
        values, pullback = scan_vjp(layer, params, x)
        return values, pullback(*values)

    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(run))} == {jnp.dtype(dtype)}


def test_memory_of_few_steps() -> None:
    """A compiled gradient over 400 steps, by hand and by autodiff, needs a fraction of the memory."""
    plain = Recurrent(LSTMCell(16))
    x = jax.ShapeDtypeStruct((2, 400, 4), "float32")
    params = jax.eval_shape(plain.init, jax.random.key(0), x)
    dy = jax.ShapeDtypeStruct((2, 400, 16), "float32")

    def temporary(layer: Any, by_hand: bool) -> int:
        def gradient(params: Any, x: Any, dy: Any) -> Any:
            return (backprop.vjp(layer, params, x) if by_hand else jax.vjp(layer.apply, params, x))[1](dy)

        return jax.jit(gradient).lower(params, x, dy).compile().memory_analysis().temp_size_in_bytes

    whole = temporary(plain, True)
    assert temporary(Rematerialized(plain), True) < 0.25 * whole
    assert temporary(Rematerialized(plain), False) < 0.5 * whole


@pytest.mark.parametrize(("steps", "length"), [(1, 1), (7, 3), (11, 4), (100, 10), (784, 28), (1000, 40), (1009, 32)])
def test_default_length_of_a_segment(steps: int, length: int) -> None:
    layer = Rematerialized(Recurrent(GRUCell(3)))
    assert layer.length(jax.ShapeDtypeStruct((1, steps, 1), "float32")) == length


X = jnp.ones((2, 4, 3))
PLAIN = Recurrent(GRUCell(3))
PARAMS = PLAIN.init(jax.random.key(0), X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Truncated(PLAIN, 0), "Truncated: k1 is 0"),
        (lambda: Truncated(PLAIN, 2, 0), "Truncated: k2 is 0"),
        (lambda: Truncated(PLAIN, 3, 2), "Truncated: k1 is 3 but k2 2; expected k1 <= k2"),
        (lambda: Rematerialized(PLAIN, 0), "Rematerialized: segment is 0"),
        (
            lambda: Rematerialized(Bidirectional(GRUCell(3))),
            "Rematerialized: layer is Bidirectional.*expected a Recurrent",
        ),  # type: ignore[arg-type]
        (lambda: Truncated(sequential(PLAIN), 2), "Truncated: layer is Sequential.*wrap each Recurrent in it"),  # type: ignore[arg-type]
        (lambda: Truncated(PLAIN, 2).apply(PARAMS, X[0]), r"x has shape \(4, 3\); expected \(N, T, D\)"),
        (lambda: Truncated(PLAIN, 2).scan(PARAMS, X, mask=jnp.ones((2, 3), bool)), r"mask has shape \(2, 3\)"),
        (lambda: Rematerialized(PLAIN).scan(PARAMS, X, mask=jnp.ones((2, 4))), "dtype float32; expected"),
        (lambda: Rematerialized(PLAIN).scan(PARAMS, X, jnp.zeros((3, 3))), r"carry has .*\(3, 3\)"),
        (lambda: scan_vjp(Rematerialized(PLAIN), PARAMS, X, jnp.zeros((3, 3))), r"carry has .*\(3, 3\)"),
        (lambda: scan_vjp(Dense(3), PARAMS, X), "backprop: the scan of Dense.* has no hand-written rule"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize(
    "wrap", [lambda r: r, Rematerialized, lambda r: Truncated(r, 2)], ids=["", "checkpointed", "truncated"]
)
@pytest.mark.parametrize("sequences", [True, False])
def test_shard_map(wrap: Any, sequences: bool) -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 2)), "float32")
    assert_sharded_alike(wrap(Recurrent(LSTMCell(2), sequences)), x)
