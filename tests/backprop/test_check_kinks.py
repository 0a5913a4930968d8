"""The checker where differences can mislead: at kinks, zeros and infinities, and with strong curvature."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Activation, Cost, Dense, activations, bind, check_gradients, losses, penalties, relu, sequential
from fnnet.backprop import RULES
from tests.cases import random_params

X = jnp.asarray(np.random.default_rng(1).standard_normal((4, 3)), jnp.float32)
Y = jnp.asarray(np.random.default_rng(2).standard_normal((4, 3)), jnp.float32)
AT_KINKS: dict[Callable[..., jax.Array], float] = {
    activations.relu: 0,
    activations.leaky_relu: 0,
    bind(activations.elu, alpha=2.0): 0,
    activations.selu: 0,
    activations.hard_sigmoid: -3,
    activations.hard_tanh: 1,
    activations.hard_silu: 3,
}


@pytest.mark.parametrize(("function", "kink"), AT_KINKS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_every_entry_at_a_kink(function: Any, kink: float) -> None:
    """All differences cross a kink, and none counts against the rule."""
    report = check_gradients(Activation(function), {}, jnp.full((2, 3), float(kink)))
    assert report.ok, str(report)
    assert report.rows[-1].differences is None
    assert report.rows[-1].kinks > 0
    assert f"{report.rows[-1].kinks} at kinks" in str(report)


def test_some_entries_at_a_kink() -> None:
    """The other entries are still checked."""
    x = jnp.array([[0.0, 1.0, -1.0, 2.0]])
    report = check_gradients(Activation(relu), {}, x)
    assert report.ok
    assert report.rows[-1].kinks > 0
    assert report.rows[-1].differences < 1e-6


def test_maxout_at_a_tie_and_no_kink_where_equal_pieces_meet() -> None:
    tied = check_gradients(Activation(activations.maxout), {}, jnp.array([[1.0, 1.0]]))
    assert tied.ok
    assert tied.rows[-1].kinks > 0
    smooth = check_gradients(Activation(activations.celu), {}, jnp.zeros((2, 3)))  # its slope is continuous at 0
    assert smooth.ok
    assert smooth.rows[-1].kinks == 0


@pytest.mark.parametrize("penalty", [penalties.l1(0.3), penalties.elastic_net(0.3, 0.2)], ids=["l1", "elastic net"])
def test_weights_that_are_zero_under_an_absolute_value(penalty: Any) -> None:
    """A pruned network: |w| has a kink at every weight, and sign(0) = 0 is a choice."""
    params = {"w": jnp.zeros((3, 3)), "b": jnp.ones(3)}
    report = check_gradients(Cost(Dense(3), losses.squared_error, penalty), params, (X, Y))
    assert report.ok, str(report)
    by_path = {row.path: row for row in report.rows}
    assert by_path["w"].kinks > 0
    assert by_path["b"].kinks == 0
    assert by_path["b"].differences < 1e-6


def test_a_network_that_starts_at_zero() -> None:
    """All hidden units are at the kink of ReLU."""
    model = sequential(Dense(3), relu, Dense(3))
    params = jax.tree.map(jnp.zeros_like, random_params(model, X))
    for loss in (losses.squared_error, losses.absolute_error):
        report = check_gradients(Cost(model, loss), params, (X, Y))
        assert report.ok, str(report)
    biases_at_zero = (params[0] | {"w": X[:3]}, {}, {"w": X[:3], "b": jnp.zeros(3)})
    assert check_gradients(Cost(model, losses.squared_error), biases_at_zero, (jnp.zeros_like(X), Y)).ok


def test_targets_that_are_met() -> None:
    """Losses with a kink where prediction and target are equal, or where the margin is 1."""
    identity = sequential(Dense(3, use_bias=False))
    params = ({"w": jnp.eye(3)},)
    for loss in (losses.absolute_error, losses.huber, losses.cosine):
        assert check_gradients(Cost(identity, loss), params, (X, X)).ok
    signs = jnp.sign(X)
    assert check_gradients(Cost(identity, losses.hinge), params, (signs, signs)).ok


def curved(power: float, scale: float) -> Callable[[Any, Any], jax.Array]:
    return lambda p, data: (jnp.exp(scale * p) + p**power).sum()


@pytest.mark.parametrize("function", [curved(2, 30.0), curved(9, 1.0), lambda p, data: jnp.sin(100 * p).sum()])
def test_strong_curvature_is_no_kink(function: Any) -> None:
    """The slope changes fast but smoothly, so the differences count."""
    p = jnp.linspace(0.1, 1.0, 5)
    report = check_gradients(function, p, None)
    assert report.ok, str(report)
    assert report.rows[1].kinks == 0
    assert report.rows[1].differences < 1e-4


def test_curvature_does_not_hide_a_wrong_gradient() -> None:
    @jax.custom_vjp
    def wave(z: jax.Array) -> jax.Array:
        return jnp.sin(100 * z)

    wave.defvjp(lambda z: (wave(z), z), lambda z, da: (da * 99 * jnp.cos(100 * z),))
    report = check_gradients(lambda p, data: wave(p).sum(), jnp.linspace(0.1, 1.0, 5), None)
    assert not report.ok
    assert "a factor of 0.99" in report.rows[1].note


def test_a_kink_elsewhere_does_not_hide_a_wrong_gradient() -> None:
    """One entry of x is at the kink of a wrong rule; the other entries show the fault."""

    @jax.custom_vjp
    def wrong_relu(z: jax.Array) -> jax.Array:
        return jnp.maximum(z, 0)

    wrong_relu.defvjp(lambda z: (wrong_relu(z), z), lambda z, da: (jnp.where(z > 0, 0.9 * da, 0),))
    report = check_gradients(lambda p, data: wrong_relu(p).sum(), jnp.array([0.0, 1.0, 2.0, -1.0]), None)
    assert not report.ok
    assert report.rows[1].kinks > 0


def test_a_gradient_that_is_zero_on_paper() -> None:
    """A softmax over the examples ignores a bias: db = 0, which both sides compute as about 1e-17."""
    model = sequential(Dense(3), bind(activations.softmax, axis=0), Dense(2))
    params = random_params(model, X)
    for seed in range(3):
        report = check_gradients(model, params, X, seed=seed, differences=seed == 0)
        assert report.ok, str(report)
    row = next(row for row in report.rows if row.path == "0.b")
    assert row.absolute < 1e-14
    assert row.note in ("0 up to rounding", "")


def spoil_bias(monkeypatch: pytest.MonkeyPatch, change: Callable[[jax.Array], jax.Array]) -> None:
    rule = RULES[Dense]

    def backward(*arguments: Any) -> Any:
        dparams, dx = rule.backward(*arguments)
        return dparams | {"b": change(dparams["b"])}, dx

    monkeypatch.setitem(RULES, Dense, rule._replace(backward=backward))


def test_zero_on_paper_is_no_excuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of 1e-9 in a gradient of 0 is larger than rounding."""
    model = sequential(Dense(3), bind(activations.softmax, axis=0))
    params = random_params(model, X)
    assert check_gradients(model, params, X, differences=False).ok
    spoil_bias(monkeypatch, lambda b: b + 1e-9)
    report = check_gradients(model, params, X, differences=False)
    assert [row.path for row in report.rows if not row.ok] == ["0.b"]


def test_a_small_gradient_beside_a_large_one_is_no_rounding_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A db of 1e-16 times dw must be right in all its digits."""
    layer, x = Dense(3), 1e16 * X
    params = {"w": 1e-16 * X[:3], "b": X[3]}
    assert check_gradients(layer, params, x, differences=False).ok
    spoil_bias(monkeypatch, lambda b: 0.99 * b)
    report = check_gradients(layer, params, x, differences=False)
    assert [row.path for row in report.rows if not row.ok] == ["b"]
    assert report.rows[1].note.endswith("a factor of 0.99")


@pytest.mark.filterwarnings("ignore:Cost")  # the model makes probabilities without a softmax
def test_infinite_entries_are_no_excuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """With equal infinities in both, finite entries are compared at their own scale."""
    cost = Cost(Activation(activations.identity), losses.cross_entropy)
    model = Cost(Dense(3), losses.cross_entropy)
    params = {"w": jnp.zeros((3, 3)), "b": jnp.array([0.0, 0.5, 0.5])}
    data = (X, jnp.array([0, 1, 2, 1]))  # the first is certain and wrong
    assert check_gradients(cost, {}, (jnp.array([[0.0, 1.0]]), jnp.array([0]))).ok
    assert check_gradients(model, params, data).ok
    spoil_bias(monkeypatch, lambda b: b.at[1].multiply(1.01))
    report = check_gradients(model, params, data)
    assert [row.path for row in report.rows if not row.ok] == ["b"]
