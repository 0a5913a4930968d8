"""Recurrences equal loops, and backpropagation through time equals autodiff, complex steps and its specification."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
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
    RNNCell,
    backprop,
    losses,
    relu,
    sequential,
)
from fnnet.backprop import scan_vjp
from fnnet.backprop.layers.recurrent import plain_forward, through_time
from fnnet.cpu import in_place
from fnnet.layers.cells import Cell
from fnnet.layers.recurrent import where_steps_exist
from tests.cases import CELLS, random_like, random_params
from tests.compare import assert_close
from tests.reference import recurrent as reference

every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=list(CELLS))
LENGTHS = np.array([5, 3, 0])


def arrays_for(cell: Cell, steps: int = 5, seed: int = 0) -> tuple[Any, jax.Array, Any]:
    """Parameters, inputs and a carry, all random."""
    generator = np.random.default_rng(seed)
    x = jnp.asarray(generator.standard_normal((3, steps, 2)))
    carry = jax.tree.map(lambda a: jnp.asarray(generator.standard_normal(a.shape)), cell.initial_carry(3, x.dtype))
    return random_params(Recurrent(cell), x), x, carry


def mask_of(steps: int, masked: bool) -> np.ndarray:
    return np.arange(steps) < LENGTHS[:, None] if masked else np.ones((3, steps), bool)


@every_cell
@pytest.mark.parametrize(("reverse", "masked"), list(product([False, True], repeat=2)))
@pytest.mark.usefixtures("x64")
def test_outputs_equal_loops(cell: Cell, reverse: bool, masked: bool) -> None:
    params, x, carry = arrays_for(cell)
    mask = mask_of(5, masked)
    of_numpy = jax.tree.map(np.asarray, (params, x, carry))
    ys, last, after = reference.scan(type(cell).__name__, *of_numpy, mask, reverse)
    for sequences, expected in ((True, ys), (False, last)):
        layer = Recurrent(cell, sequences, reverse)
        for y, left in (
            layer.scan(params, x, carry, jnp.asarray(mask)),
            scan_vjp(layer, params, x, carry, jnp.asarray(mask))[0],
        ):
            assert_close(y, expected.real)
            assert_close(left, jax.tree.map(np.real, after))


@every_cell
@pytest.mark.usefixtures("x64")
def test_gradients_equal_complex_steps(cell: Cell) -> None:
    """The layer has a mask and a given carry; outputs and carry get random cotangents."""
    params, x, carry = arrays_for(cell, 3)
    mask = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1]], bool)
    layer = Recurrent(cell)
    (y, after), pullback = scan_vjp(layer, params, x, carry, jnp.asarray(mask))
    dy, dafter = random_like((y, after))
    leaves, structure = jax.tree.flatten((params, x, carry))

    def weighed(arrays: list[np.ndarray]) -> complex:
        p, xs, c = jax.tree.unflatten(structure, arrays)
        ys, _, left = reference.scan(type(cell).__name__, p, xs, c, mask, False)
        pairs = zip(jax.tree.leaves((dy, dafter)), jax.tree.leaves((ys, left)), strict=True)
        return sum((np.asarray(a) * b).sum() for a, b in pairs)

    expected = reference.complex_step_gradient(weighed, [np.asarray(leaf) for leaf in leaves])
    assert_close(pullback(dy, dafter), jax.tree.unflatten(structure, expected))


@pytest.mark.parametrize("cell", [*CELLS.values(), RNNCell(3, activation=relu)], ids=[*CELLS, "rnn of relu"])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize(("sequences", "reverse", "masked"), list(product([False, True], repeat=3)))
@pytest.mark.usefixtures("x64")
def test_gradients_equal_autodiff(cell: Cell, steps: int, sequences: bool, reverse: bool, masked: bool) -> None:
    params, x, carry = arrays_for(cell, steps)
    mask = jnp.asarray(mask_of(steps, masked)) if masked else None
    layer = Recurrent(cell, sequences, reverse)

    def both(params: Any, x: Any, carry: Any, cotangents: Any) -> Any:
        result, pullback = jax.vjp(lambda *arguments: layer.scan(*arguments, mask), params, x, carry)
        by_hand, pullback_by_hand = scan_vjp(layer, params, x, carry, mask)
        return (result, pullback(cotangents)), (by_hand, pullback_by_hand(*cotangents))

    shapes = jax.eval_shape(lambda *arguments: layer.scan(*arguments, mask), params, x, carry)
    expected, found = jax.jit(both)(params, x, carry, random_like(shapes))
    assert_close(found, expected, 1e-12)


@every_cell
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.usefixtures("x64")
def test_in_place_equals_the_specification(cell: Cell, masked: bool) -> None:
    params, x, carry = arrays_for(cell)
    mask = jnp.asarray(mask_of(5, masked)) if masked else None

    def both(dy: Any, dafter: Any) -> Any:
        dy = where_steps_exist(dy, mask)
        plain, fast = plain_forward(cell, params, x, carry, mask), in_place.forward(cell, params, x, carry, mask)
        back = through_time(cell, params, plain[2], dy, dafter), in_place.backward(cell, params, fast[2], dy, dafter)
        return (plain[:2], back[0]), (fast[:2], back[1])

    expected, found = jax.jit(both)(*random_like(Recurrent(cell).scan(params, x, carry, mask)))
    assert_close(found, expected, 1e-13)


@dataclass(frozen=True)
class Decaying(RNNCell):
    """A cell of the user's own: ``h ← a h + x w_x + b`` with ``a = 1/2``."""

    def advance(self, params: Any, carry: Any, z: Any) -> Any:
        return carry / 2 + z, carry / 2 + z


def decaying_backward(cell: Decaying, params: Any, h: Any, x: Any, dafter: Any, dy: Any) -> Any:
    delta = dafter + dy
    dparams = {"w_x": x.T @ delta, "w_h": jnp.zeros_like(params["w_h"]), "b": delta.sum(0)}
    return dparams, delta / 2, delta @ params["w_x"].T


@pytest.mark.parametrize(("sequences", "reverse"), [(True, False), (False, True)])
@pytest.mark.usefixtures("x64")
def test_a_cell_of_your_own_needs_one_function(sequences: bool, reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backprop.CELL_RULES, Decaying, decaying_backward)
    layer, mask = Recurrent(Decaying(3), sequences, reverse), jnp.asarray(mask_of(5, True))
    arguments = arrays_for(Decaying(3))
    expected, pullback = jax.vjp(lambda *arguments: layer.scan(*arguments, mask), *arguments)
    found, pullback_by_hand = scan_vjp(layer, *arguments, mask)
    cotangents = random_like(expected)
    assert_close((found, pullback_by_hand(*cotangents)), (expected, pullback(cotangents)), 1e-13)


@every_cell
@pytest.mark.usefixtures("x64")
def test_the_scan_is_a_loop_of_steps(cell: Cell) -> None:
    params, x, carry = arrays_for(cell)

    def looped(params: Any, x: Any, carry: Any) -> Any:
        ys = []
        for t in range(x.shape[1]):
            carry, y = cell.step(params, carry, x[:, t])
            ys.append(y)
        return jnp.stack(ys, 1), carry

    layer = Recurrent(cell)
    result, pullback = jax.vjp(looped, params, x, carry)
    by_hand, pullback_by_hand = scan_vjp(layer, params, x, carry)
    assert_close(by_hand, result, 1e-13)
    cotangents = random_like(result)
    assert_close(pullback_by_hand(*cotangents), pullback(cotangents), 1e-12)


@every_cell
@pytest.mark.usefixtures("x64")
def test_two_calls_with_the_carry_equal_one(cell: Cell) -> None:
    params, x, carry = arrays_for(cell)
    layer = Recurrent(cell)
    whole, end = layer.scan(params, x, carry)
    first, middle = layer.scan(params, x[:, :2], carry)
    second, last = layer.scan(params, x[:, 2:], middle)
    assert_close((jnp.concatenate([first, second], 1), last), (whole, end), 1e-14)


@every_cell
@pytest.mark.usefixtures("x64")
def test_padding_changes_nothing(cell: Cell) -> None:
    """Neither results nor gradients depend on the inputs at steps that do not exist, not even on NaN."""
    params, x, carry = arrays_for(cell)
    mask = jnp.asarray(mask_of(5, True))
    layer = Recurrent(cell)
    (y, end), pullback = scan_vjp(layer, params, x, carry, mask)
    cotangents = random_like((y, end))
    filled = jnp.where(mask[..., None], x, jnp.nan)
    (y_filled, end_filled), pullback_filled = scan_vjp(layer, params, filled, carry, mask)
    assert_close((y_filled, end_filled), (y, end), 0)
    assert_close(pullback_filled(*cotangents), pullback(*cotangents), 1e-14)
    _, by_autodiff = jax.vjp(lambda *arguments: layer.scan(*arguments, mask), params, filled, carry)
    assert_close(by_autodiff(cotangents), pullback(*cotangents), 1e-12)
    assert not np.asarray(y)[~np.asarray(mask)].any()
    short, end_short = layer.scan(params, x[1:2, :3], jax.tree.map(lambda c: c[1:2], carry))
    assert_close((y[1:2, :3], jax.tree.map(lambda c: c[1:2], end)), (short, end_short), 1e-14)


@every_cell
def test_initial_values(cell: Cell) -> None:
    params = Recurrent(cell).init(jax.random.key(0), jnp.ones((2, 4, 5)))
    gates = params["b"].size // 3
    assert params["w_x"].shape == (5, 3 * gates)
    for gate in jnp.split(params["w_h"], gates, -1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(3), atol=1e-6)
    expected = np.zeros(3 * gates)
    if isinstance(cell, LSTMCell):
        expected[3:6] = 1
    np.testing.assert_array_equal(params["b"], expected)


def test_both_directions_are_concatenated() -> None:
    layer = Bidirectional(GRUCell(3), other=LSTMCell(3))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 5)), "float32")
    params = layer.init(jax.random.key(0), x)
    forward = Recurrent(GRUCell(3)).apply(params["forward"], x)
    backward = Recurrent(LSTMCell(3)).apply(params["backward"], x[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(layer.apply(params, x), np.concatenate([forward, backward], -1), rtol=1e-6)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.usefixtures("x64")
def test_both_directions_from_carries_with_masks(sequences: bool) -> None:
    """Each direction equals its own recurrence, and the gradients equal those of autodiff."""
    layer = Bidirectional(GRUCell(3), sequences, other=LSTMCell(2))
    _, x, one = arrays_for(GRUCell(3))
    carry, mask = {"forward": one, "backward": arrays_for(LSTMCell(2))[2]}, jnp.asarray(mask_of(5, True))
    params = random_params(layer, x)

    def all_of_them(arguments: Any, cotangents: Any) -> Any:
        scanned, pullback = jax.vjp(lambda *arguments: layer.scan(*arguments, mask), *arguments)
        by_hand, pullback_by_hand = scan_vjp(layer, *arguments, mask)
        return (scanned, pullback(cotangents)), (by_hand, pullback_by_hand(*cotangents))

    y, after = layer.scan(params, x, carry, mask)
    for name, width in (("forward", slice(3)), ("backward", slice(3, None))):
        expected = layer.directions[name].scan(params[name], x, carry[name], mask)
        assert_close((y[..., width], after[name]), expected, 1e-14)
    by_autodiff, by_hand = jax.jit(all_of_them)((params, x, carry), random_like((y, after)))
    assert_close(by_hand, by_autodiff, 1e-12)


@pytest.mark.usefixtures("x64")
def test_a_pullback_without_a_gradient_for_the_carry() -> None:
    params, x, carry = arrays_for(LSTMCell(3))
    (y, after), pullback = scan_vjp(Recurrent(LSTMCell(3)), params, x, carry)
    assert_close(pullback(y), pullback(y, jax.tree.map(jnp.zeros_like, after)), 0)


def test_lists_and_numpy_arrays_are_carries_and_masks() -> None:
    mask = mask_of(4, True)[:2]
    expected = Recurrent(GRUCell(3)).scan(PARAMS, X, jnp.zeros((2, 3)), jnp.asarray(mask))
    given = Recurrent(GRUCell(3)).scan(PARAMS, X, np.zeros((2, 3)).tolist(), mask.tolist())
    assert_close(given, expected, 0)
    assert_close(scan_vjp(Recurrent(GRUCell(3)), PARAMS, X, np.zeros((2, 3), "float32"), mask.tolist())[0], expected, 0)


def test_a_stack_in_a_cost_has_the_gradients_of_autodiff() -> None:
    """The model uses the output of the last step only."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 6, 1)), "float32")
    y = jnp.asarray(x[:, 0, 0] > 0, "int32")
    model = sequential(Recurrent(GRUCell(8)), Recurrent(LSTMCell(8), return_sequences=False), Dense(2))
    cost = Cost(model, losses.softmax_cross_entropy)
    params = model.init(jax.random.key(0), x)
    assert_close(backprop.grad(cost)(params, (x, y)), jax.grad(cost)(params, (x, y)), 1e-4)


X = jnp.ones((2, 4, 3))
PARAMS = Recurrent(GRUCell(3)).init(jax.random.key(0), X)
OF_LSTM = Recurrent(LSTMCell(3)).init(jax.random.key(0), X)
PULLBACK = scan_vjp(Recurrent(GRUCell(3)), PARAMS, X)[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RNNCell(0), "RNNCell: features is 0"),
        (lambda: Recurrent(GRUCell(3)).init(jax.random.key(0), X[0]), r"x has shape \(4, 3\); expected \(N, T, D\)"),
        (lambda: Recurrent(GRUCell(3)).apply(PARAMS, X[:, :0]), "with no time steps"),
        (lambda: Recurrent(GRUCell(3)).apply(PARAMS, X[..., :2]), r"x has shape .* w_x has shape \(3, 9\)"),
        (
            lambda: Recurrent(GRUCell(3)).scan(PARAMS, X, jnp.zeros((3, 3))),
            r"carry has .*\(3, 3\).*expected .*\(2, 3\)",
        ),
        (lambda: Recurrent(LSTMCell(3)).scan(PARAMS, X, jnp.zeros((2, 3))), "carry has"),
        (lambda: Recurrent(GRUCell(3)).scan(PARAMS, X, mask=jnp.ones((2, 3), bool)), r"mask has shape \(2, 3\)"),
        (lambda: Recurrent(GRUCell(3)).scan(PARAMS, X, mask=jnp.ones((2, 4))), "dtype float32; expected"),
        (lambda: GRUCell(3).step(PARAMS, jnp.zeros(3), X[:, 0]), r"GRUCell.*carry has .*\(3,\).*expected .*\(2, 3\)"),
        (lambda: GRUCell(3).step(PARAMS, jnp.zeros((1, 3)), X[:, 0]), "carry has"),
        (lambda: GRUCell(3).step(PARAMS, jnp.zeros((2, 3)), X), r"x has shape \(2, 4, 3\); expected \(N, D\)"),
        (
            lambda: LSTMCell(3).step(LSTMCell(3).init(jax.random.key(0), X[:, 0]), (jnp.zeros((2, 3)),), X[:, 0]),
            "carry has",
        ),
        (lambda: Bidirectional(GRUCell(3)).scan({}, X, jnp.zeros((2, 3))), "expected a dict of two, 'forward' and"),
        (lambda: PULLBACK(X[..., :2]), r"scan_vjp: dy has shape \(2, 4, 2\) but .*\(2, 4, 3\)"),
        (lambda: PULLBACK(X, jnp.zeros((1, 3))), "scan_vjp: dcarry has .*; they must be equal"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="x has dtype int32; expected floating point"):
        Recurrent(GRUCell(3)).apply(PARAMS, jnp.ones((2, 4, 3), "int32"))
    with pytest.raises(TypeError, match="scan_vjp: dy has dtype bfloat16 but y has float32"):
        PULLBACK(X.astype("bfloat16"))


def test_what_is_no_cell_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Recurrent: cell is .*; write GRUCell\(...\)"):
        Recurrent(GRUCell)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="which has no step"):
        Bidirectional(Dense(3))  # type: ignore[arg-type]

    class Unknown(RNNCell):
        pass

    with pytest.raises(TypeError, match="has no hand-written rule"):
        backprop.vjp(Recurrent(Unknown(3)), Recurrent(RNNCell(3)).init(jax.random.key(0), X), X)
