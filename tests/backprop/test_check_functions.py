"""The checker on gradients that others wrote: plain functions, ``jax.custom_vjp``, and ``value_and_grad=``."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, Dropout, backprop, check_gradients, losses, penalties, sequential, tanh
from fnnet.backprop import RULES
from fnnet.layers import Activation
from tests.cases import random_params

X = jnp.asarray(np.random.default_rng(1).standard_normal((4, 3)), jnp.float32)
Y = jnp.asarray(np.random.default_rng(2).standard_normal((4, 3)), jnp.float32)
Gradients = dict[str, jax.Array]


def energy(params: Any, data: Any) -> jax.Array:
    return jnp.square(jnp.tanh(data @ params["w"]) + params["b"]).sum()


ENERGY_PARAMS = {"w": X[:3], "b": X[3]}


def test_a_plain_function_against_differences() -> None:
    report = check_gradients(energy, ENERGY_PARAMS, X)
    assert report.ok
    assert [row.path for row in report.rows] == ["value", "b", "w"]
    assert report.compared == "autodiff against central differences"
    assert all(0 < row.differences < 1e-6 for row in report.rows[1:])


def test_a_function_that_gives_many_numbers() -> None:
    """The outputs are weighted at random, so that an error which sums to zero shows."""
    assert check_gradients(lambda p, x: jax.nn.softmax(x @ p), X[:3], X).ok
    assert not check_gradients(lambda p, x: blind_softmax(x @ p), X[:3], X).ok
    assert check_gradients(lambda p, x: blind_softmax(x @ p).sum(), X[:3], X).ok


@jax.custom_vjp
def blind_softmax(z: jax.Array) -> jax.Array:
    """A softmax whose derivative is right only if all outputs have the same weight."""
    return jax.nn.softmax(z)


blind_softmax.defvjp(
    lambda z: (jax.nn.softmax(z), jax.nn.softmax(z)), lambda a, da: (a * (da - da.mean(-1, keepdims=True)),)
)


def cube_with(slope: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    @jax.custom_vjp
    def cube(z: jax.Array) -> jax.Array:
        return z**3

    cube.defvjp(lambda z: (z**3, z), lambda z, da: (da * slope(z),))
    return cube


RIGHT = cube_with(lambda z: 3 * z**2)


@pytest.mark.parametrize("name", ["function", "layer", "cost"])
def test_a_right_custom_vjp_passes(name: str) -> None:
    assert check_gradients(**with_cube(name, RIGHT)).ok


@pytest.mark.parametrize("name", ["function", "layer", "cost"])
def test_a_wrong_custom_vjp_is_found_by_differences(name: str) -> None:
    """Autodiff runs the custom rule and agrees with itself; the differences find the fault and its factor."""
    wrong = cube_with(lambda z: 2 * z**2)
    report = check_gradients(**with_cube(name, wrong))
    found = [row for row in report.rows if not row.ok]
    assert found
    assert all("a factor of 0.66666" in row.note for row in found)
    assert all("a custom derivative is wrong, or a value is cut off from its derivative" in row.note for row in found)


class Cubed(Activation):
    """A layer without a hand-written rule."""


def with_cube(name: str, cube: Callable[[jax.Array], jax.Array]) -> dict[str, Any]:
    """Return a subject whose gradients are all wrong by the factor of the cube."""
    if name == "function":
        return {"subject": lambda p, x: (cube(p["a"]) * x).sum(), "params": {"a": X}, "data": Y}
    if name == "layer":
        return {"subject": Cubed(cube), "params": {}, "data": X}
    cost = Cost(Dense(3), lambda prediction, target: (cube(prediction) * target).sum(-1))
    return {"subject": cost, "params": random_params(Dense(3), X), "data": (X, Y), "value_and_grad": jax.value_and_grad}


def test_a_value_that_is_cut_off_is_found() -> None:
    """A ``stop_gradient`` by mistake is found."""
    report = check_gradients(lambda p, x: (p * jax.lax.stop_gradient(p)).sum(), X, X)
    assert not report.ok
    assert "a factor of 0.5" in report.rows[1].note


MODEL = sequential(Dense(3), tanh, Dense(3))
COST = Cost(MODEL, losses.squared_error, penalties.l2(0.1))
PARAMS = random_params(MODEL, X)


def faulty(change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Return a ``value_and_grad`` with gradients changed by ``change(grads, params)``."""

    def of(cost: Any) -> Callable[..., Any]:
        def run(params: Any, data: Any, **options: Any) -> Any:
            value, grads = jax.value_and_grad(cost)(params, data, **options)
            return value, change(grads, params)

        return run

    return of


def at(layer: int, name: str, change: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[..., Any]:
    """Return a ``value_and_grad`` with a fault in one tensor, ``change(gradient, parameter)``."""

    def spoil(grads: Any, params: Any) -> Any:
        changed = {**grads[layer], name: change(grads[layer][name], params[layer][name])}
        return (*grads[:layer], changed, *grads[layer + 1 :])

    return faulty(spoil)


FAULTS: list[tuple[str, Callable[..., Any], set[str], str]] = [
    ("a factor", at(0, "w", lambda g, w: 3 * g), {"0.w"}, "a factor of 3$"),
    ("a small factor", at(0, "w", lambda g, w: 0.99 * g), {"0.w"}, r"a factor of 0\.99$"),
    ("the sign", at(2, "b", lambda g, b: -g), {"2.b"}, "the sign$"),
    ("the transpose", at(2, "w", lambda g, w: g.T), {"2.w"}, "the transpose$"),
    ("a sum", at(0, "b", lambda g, b: 4 * g), {"0.b"}, "a factor of 4, the number of examples: a sum for a mean$"),
    ("a mean", at(0, "b", lambda g, b: g / 4), {"0.b"}, r"a factor of 0.25, 1 / the number of examples: a mean for a"),
    ("a sum and the sign", at(0, "b", lambda g, b: -4 * g), {"0.b"}, "a sum for a mean and the sign$"),
    ("zero", at(0, "b", lambda g, b: 0 * g), {"0.b"}, "it is zero: the term is missing$"),
    ("no penalty", at(2, "w", lambda g, w: g - 0.1 * w), {"2.w"}, "the penalty's gradient is missing$"),
    ("the penalty twice", at(2, "w", lambda g, w: g + 0.1 * w), {"2.w"}, "the penalty counts 2 times$"),
    (
        "the bias penalized",
        at(2, "b", lambda g, b: g + 0.1 * b),
        {"2.b"},
        "a penalty on a parameter",
    ),
    (
        "its sign penalized",
        at(2, "b", lambda g, b: g + jnp.sign(b)),
        {"2.b"},
        "a penalty on a parameter",
    ),
    ("one entry", at(0, "w", lambda g, w: g.at[1, 2].add(1)), {"0.w"}, "1 of 9 entries differ; the others agree$"),
    ("entries zero", at(0, "w", lambda g, w: g.at[:, 1].set(0)), {"0.w"}, "3 of 9 entries differ, which are zero; the"),
    ("NaN", at(0, "w", lambda g, w: g.at[0, 0].set(jnp.nan)), {"0.w"}, "1 entries are NaN or infinite$"),
    ("something else", at(0, "w", lambda g, w: g**2), {"0.w"}, "no simple fault fits; look at the formula$"),
    (
        "tensors exchanged",
        faulty(lambda grads, params: grads[::-1]),
        {"0.w", "0.b", "2.w", "2.b"},
        "look at the formula",
    ),
]


@pytest.mark.parametrize(("engine", "wrong", "note"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_the_likely_fault_is_named(engine: Callable[..., Any], wrong: set[str], note: str) -> None:
    report = check_gradients(COST, PARAMS, (X, Y), value_and_grad=engine, differences=False)
    assert {row.path for row in report.rows if not row.ok} == wrong
    for row in report.rows:
        assert row.ok or re.search(f"by hand, .* by autodiff: .*{note}", row.note), row.note


def test_the_value_is_checked_too() -> None:
    def of(cost: Any) -> Callable[..., Any]:
        return lambda *data, **options: (cost(*data, **options) * 4, jax.grad(cost)(*data, **options))

    report = check_gradients(COST, PARAMS, (X, Y), value_and_grad=of, differences=False)
    assert [row.path for row in report.rows if not row.ok] == ["value"]
    assert "a factor of 4, the number of examples: a sum for a mean" in report.rows[0].note


def test_a_gradient_of_a_function_by_hand() -> None:
    def by_hand(function: Any) -> Callable[..., Any]:
        def run(params: Gradients, data: Any) -> tuple[jax.Array, Gradients]:
            t = jnp.tanh(data @ params["w"])
            r = 2 * (t + params["b"])
            return function(params, data), {"w": data.T @ (r * (1 - t**2)), "b": r.sum(0)}

        return run

    def forgotten(function: Any) -> Callable[..., Any]:
        def run(params: Gradients, data: Any) -> tuple[jax.Array, Gradients]:
            value, grads = by_hand(function)(params, data)
            return value, {"b": grads["b"]}

        return run

    report = check_gradients(energy, ENERGY_PARAMS, X, value_and_grad=by_hand)
    assert report.ok
    assert report.compared == "by hand against autodiff and central differences"
    report = check_gradients(energy, ENERGY_PARAMS, X, value_and_grad=forgotten)
    assert [(row.path, row.note) for row in report.rows if not row.ok] == [("w", "missing by hand")]


def test_key_and_train_reach_value_and_grad() -> None:
    """They reach the ``value_and_grad`` of a cost; with another mask the value would differ."""
    model = sequential(Dropout(0.5), Dense(3))
    cost, options = Cost(model, losses.squared_error), {"key": jax.random.key(2), "train": True, "differences": False}
    for engine in (jax.value_and_grad, backprop.value_and_grad):
        report = check_gradients(cost, random_params(model, X), (X, Y), value_and_grad=engine, **options)
        assert report.ok, str(report)


def test_dx_is_dy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, Activation, RULES[Activation]._replace(backward=lambda layer, p, r, dy: ({}, dy)))
    report = check_gradients(Activation(tanh), {}, X)
    assert [row.path for row in report.rows if not row.ok] == ["x"]
    assert report.rows[-1].note.endswith("dx is dy: the layer's own derivative is forgotten")


def test_a_comparison_with_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="check_gradients: there is nothing to compare autodiff with"):
        check_gradients(lambda p, x: (p * x).sum(), X, X, differences=False)
