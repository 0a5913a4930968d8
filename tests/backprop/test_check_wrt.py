"""The checker on gradients with respect to inputs, targets and weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, Embedding, check_gradients, losses, penalties, sequential, softmax, tanh
from fnnet.backprop import RULES
from tests.cases import random_params

RNG = np.random.default_rng(3)
X, Y = jnp.asarray(RNG.standard_normal((4, 3))), jnp.asarray(RNG.uniform(0.1, 0.9, (4, 3)))
WEIGHTS = jnp.asarray([0.5, 1.0, 2.0, 1.5])
MODEL = sequential(Dense(3), tanh, Dense(3))
PARAMS, LINEAR = random_params(MODEL, X), random_params(Dense(3), X)
ALL = ("params", "x", "target", "weights")


def wrong(report: Any) -> list[str]:
    return [row.path for row in report.rows if not row.ok]


@pytest.mark.parametrize("loss", [losses.softmax_cross_entropy, losses.cosine])
def test_every_array_of_a_batch(loss: Any) -> None:
    """``x`` by hand, targets and weights by differences; the order of the names is that of the rows."""
    report = check_gradients(Cost(Dense(3), loss), LINEAR, (X, Y, WEIGHTS), wrt=ALL[::-1])
    assert report.ok, str(report)
    assert [row.path for row in report.rows] == ["value", "b", "w", "x", "target", "weights"]
    assert all(row.differences is not None for row in report.rows[1:])
    by_hand = "by hand against autodiff and central differences"
    assert report.compared == f"{by_hand}, target and weights by autodiff against central differences"


def test_the_default_is_the_parameters() -> None:
    report = check_gradients(Cost(Dense(3), losses.squared_error), LINEAR, (X, Y, WEIGHTS), differences=False)
    assert [row.path for row in report.rows] == ["value", "b", "w"]


def test_x_of_a_cost_is_that_of_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """It includes the losses that are taken together with the last activation."""
    softmaxed, labels = sequential(*MODEL.layers, softmax), jnp.asarray([0, 2, 1, 1])
    rule = RULES[Dense]
    for model, loss, target in ((MODEL, losses.squared_error, Y), (softmaxed, losses.cross_entropy, labels)):
        cost, params = Cost(model, loss, penalties.l2(0.1)), random_params(model, X)
        options: dict[str, Any] = {"wrt": ("params", "x"), "differences": False}
        report = check_gradients(cost, params, (X, target), **options)
        assert report.ok, str(report)
        with monkeypatch.context() as patch:
            patch.setitem(
                RULES, Dense, rule._replace(backward=lambda *a: (rule.backward(*a)[0], rule.backward(*a)[1][::-1]))
            )
            assert wrong(check_gradients(cost, params, (X, target), **options)) == ["0.b", "0.w", "x"]


@jax.custom_vjp
def with_half_a_target(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """A squared error whose derivative with respect to the target is half of what it should be."""
    return jnp.square(prediction - target).sum(-1)


with_half_a_target.defvjp(
    lambda p, y: (with_half_a_target(p, y), 2 * (p - y)), lambda d, dy: (dy[:, None] * d, -dy[:, None] * d / 2)
)


def test_a_wrong_gradient_of_targets_is_found() -> None:
    """It is the only row that is wrong; with targets alone the loss needs no rule."""
    cost = Cost(Dense(3), with_half_a_target)
    report = check_gradients(cost, LINEAR, (X, Y), wrt=("params", "target"), value_and_grad=jax.value_and_grad)
    assert wrong(report) == ["target"]
    assert "a factor of 0.5" in report.rows[-1].note
    assert wrong(check_gradients(cost, LINEAR, (X, Y), wrt=("target",))) == ["target"]


def mean_of_constant_weights(params: Any, batch: Any) -> jax.Array:
    x, y, weights = batch
    mean = weights / jax.lax.stop_gradient(weights.sum())
    return (mean * jnp.square(x @ params - y).sum(-1)).sum()


def test_a_wrong_gradient_of_weights_is_found() -> None:
    """The entries of a function's tuple have the names of a batch."""
    report = check_gradients(mean_of_constant_weights, Y[:3], (X, Y, WEIGHTS), wrt=ALL)
    assert [row.path for row in report.rows] == ["value", "params", "x", "target", "weights"]
    assert wrong(report) == ["weights"]
    assert report.compared == "autodiff against central differences"


def test_a_fourth_entry_and_trees_stay_as_they_are() -> None:
    def function(params: Any, data: Any) -> jax.Array:
        x, y, _, factor = data
        return factor * (x["a"] @ params - y).sum()

    report = check_gradients(function, Y[:3], [{"a": X, "b": X}, Y, 0, 2.0], wrt=("x",))
    assert report.ok
    assert [row.path for row in report.rows] == ["value", "x.a", "x.b"]


def test_the_input_of_a_layer_alone_and_in_low_precision() -> None:
    report = check_gradients(Dense(2), random_params(Dense(2), X), X, wrt=("x",), dtype="bfloat16")
    assert report.ok
    assert [row.path for row in report.rows] == ["y", "x"]


COST, EMBEDDING = Cost(MODEL, losses.squared_error), Embedding(3, 2)
TOKENS = jnp.asarray([[0, 2]])


@pytest.mark.parametrize(
    ("subject", "data", "options", "error", "message"),
    [
        (COST, (X, Y), {"wrt": ("weights",)}, ValueError, r"wrt is \('weights',\); expected a tuple of some of"),
        (COST, (X, Y), {"wrt": "x"}, ValueError, "wrt is 'x'; expected a tuple"),
        (COST, (X, Y), {"wrt": ()}, ValueError, r"wrt is \(\); expected a tuple"),
        (COST, (X, Y, WEIGHTS, X), {}, TypeError, r"expected data=\(x, y\) or \(x, y, weights\)"),
        (COST, (X, TOKENS[0]), {"wrt": ("target",)}, TypeError, "target has dtype int32, which has no gradient"),
        (EMBEDDING, TOKENS, {"wrt": ("x",)}, TypeError, "x has dtype int32, which has no gradient"),
        (
            COST,
            (X, Y),
            {"wrt": ("x", "target"), "differences": False},
            ValueError,
            "nothing to compare autodiff with for target; leave differences on",
        ),
    ],
)
def test_refused(subject: Any, data: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"check_gradients: .*{message}"):
        check_gradients(subject, PARAMS, data, **options)
