"""The checker itself: healthy rules pass, broken ones are caught, and in the right rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import (
    Activation,
    Cost,
    Dense,
    Dropout,
    Sequential,
    bind,
    check_gradients,
    losses,
    penalties,
    sequential,
    sigmoid,
    softmax,
    tanh,
)
from fnnet.backprop import RULES
from fnnet.backprop.check import compare_tensors, compare_trees
from tests.cases import LAYERS, LOSSES, LayerCase, LossCase, random_params

X = jnp.asarray(np.random.default_rng(1).standard_normal((4, 3)), jnp.float32)
LABELS = jnp.array([0, 2, 1, 2])
NETWORK = sequential(Dense(3), tanh, Dense(3))
COST = Cost(NETWORK, losses.softmax_cross_entropy, penalties.l2(0.1))


def wrong_rows(subject: Any, params: Any, data: Any, **options: Any) -> set[str]:
    report = check_gradients(subject, params, data, **options)
    assert report.ok == all(row.ok for row in report.rows)
    return {row.path for row in report.rows if not row.ok}


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_healthy_layers_pass(case: LayerCase) -> None:
    report = check_gradients(case.build(), case.params("float32"), case.x("float32"), **case.options())
    assert report.ok, str(report)
    assert report.rows[0].path == "y"
    assert report.rows[-1].path == "x"
    assert len(report.rows) == 2 + len(jax.tree.leaves(case.params("float32")))


@pytest.mark.parametrize("case", LOSSES[::3], ids=str)
def test_healthy_costs_pass(case: LossCase) -> None:
    prediction, target = case.arrays("float32")
    model = sequential(Dense(prediction.shape[-1]), case.head)
    cost = Cost(model, case.loss, penalties.elastic_net(0.1, 0.2))
    report = check_gradients(cost, random_params(model, prediction), (prediction, target))
    assert report.ok, str(report)
    assert [row.path for row in report.rows] == ["value", "0.b", "0.w"]


def test_precision_does_not_depend_on_the_default() -> None:
    """Given bfloat16 it computes in float64, and leaves the default precision alone."""
    params = random_params(NETWORK, X.astype("bfloat16"))
    reports = [check_gradients(COST, params, (X.astype("bfloat16"), LABELS))]
    assert jnp.ones(1).dtype == jnp.float32
    with jax.enable_x64(True):
        reports.append(check_gradients(COST, params, (X.astype("bfloat16"), LABELS)))
        assert jnp.ones(1).dtype == jnp.float64
    for report in reports:
        assert report.ok
        assert report.worst < 1e-12
    assert reports[0] == reports[1]


def test_numpy_arrays_are_taken() -> None:
    params = jax.tree.map(np.asarray, random_params(NETWORK, X))
    assert check_gradients(COST, params, (np.asarray(X), np.asarray(LABELS))).ok


def test_dropout_under_key_and_train() -> None:
    model = sequential(Dropout(0.5), NETWORK)
    options = {"key": jax.random.key(0), "train": True}
    assert check_gradients(model, random_params(model, X), X, **options).ok


def test_a_key_may_be_used_by_both_sides() -> None:
    """A layer that draws from the key itself: the checker asks twice for the same numbers, and means to."""
    key = jax.random.key(0)
    assert check_gradients(Dropout(0.5), {}, X, key=key, train=True).ok
    assert check_gradients(Cost(Dropout(0.5), losses.squared_error), {}, (X, X), key=jax.random.key(1), train=True).ok


def test_a_gradient_that_is_zero_on_paper_is_no_alarm() -> None:
    """Softmax over the examples does not see a bias: db = 0, which both sides round to something near 1e-17."""
    model = sequential(Dense(3), bind(softmax, axis=0), Dense(2))
    report = check_gradients(model, random_params(model, X), X)
    assert report.ok, str(report)


def test_the_table() -> None:
    report = check_gradients(Dense(2), random_params(Dense(2), X), X)
    lines = str(report).splitlines()
    assert lines[0].split() == ["tensor", "shape", "max", "abs", "error", "max", "rel", "error", "cosine"]
    assert [line.split()[:2] for line in lines[1:-1]] == [["y", "4×2"], ["b", "2"], ["w", "3×2"], ["x", "4×3"]]
    assert all(line.endswith("1.000000  ok") for line in lines[1:-1])
    assert lines[-1] == "all agree (relative tolerance 1e-10, float64)"


def test_the_table_of_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    backward = RULES[Dense].backward

    def off(*args: Any) -> Any:
        dparams, dx = backward(*args)
        return {"w": dparams["w"] * 2, "extra": dx}, dx.T

    monkeypatch.setitem(RULES, Dense, RULES[Dense]._replace(backward=off))
    report = check_gradients(Dense(2), random_params(Dense(2), X), X)
    assert not report.ok
    assert np.isnan(report.worst)
    lines = {line.split()[0]: line for line in str(report).splitlines()}
    assert lines["w"].split()[3:] == ["1.00e+00", "1.000000", "DIFFERS"]
    assert lines["b"].endswith("DIFFERS: missing by hand")
    assert lines["x"].endswith("DIFFERS: by hand of shape (3, 4)")
    assert lines["extra"].endswith("DIFFERS: autodiff has no such tensor")
    assert lines["differ:"] == "differ: b, w, x, extra (relative tolerance 1e-10, float64)"


def test_the_numbers_of_a_row() -> None:
    row = compare_tensors("w", np.array([3.0, 4.5]), np.array([3.0, 4.0]), 0.2)
    assert (row.path, row.shape, row.absolute, row.relative, row.ok) == ("w", (2,), 0.5, 0.125, True)
    assert row.cosine == pytest.approx((9 + 18) / (np.hypot(3, 4.5) * 5))
    assert not compare_tensors("w", np.array([3.0, 4.5]), np.array([3.0, 4.0]), 0.1).ok


@pytest.mark.parametrize(
    ("by_hand", "by_autodiff", "ok"),
    [
        ([0.0, 0.0], [0.0, 0.0], True),
        ([1e-300, 0.0], [0.0, 0.0], False),
        ([np.nan, 1.0], [1.0, 1.0], False),
        ([1.0, 1.0], [np.nan, 1.0], False),
        ([np.nan, 1.0], [np.nan, 1.0], False),
        ([np.inf, 1.0], [1.0, 1.0], False),
        ([np.inf, 1.0], [np.inf, 1.0], True),
        ([np.inf, 1.0], [np.inf, 2.0], False),
        ([np.inf, 1.0], [-np.inf, 1.0], False),
        ([], [], True),
    ],
)
def test_zeros_and_what_is_not_finite(by_hand: list[float], by_autodiff: list[float], ok: bool) -> None:
    assert compare_tensors("", np.array(by_hand), np.array(by_autodiff), 1e-10).ok == ok


def test_rows_are_matched_by_name() -> None:
    rows = compare_trees([("a", np.ones(1)), ("b", np.zeros(1))], [("b", np.zeros(1)), ("a", np.ones(1))], 1e-10)
    assert [(row.path, row.ok) for row in rows] == [("b", True), ("a", True)]


def test_the_tolerance_is_the_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    backward = RULES[Dense].backward
    scaled = RULES[Dense]._replace(backward=lambda *a: jax.tree.map(lambda g: g * (1 + 1e-6), backward(*a)))
    monkeypatch.setitem(RULES, Dense, scaled)
    params = random_params(Dense(2), X)
    assert wrong_rows(Dense(2), params, X) == {"b", "w", "x"}
    assert wrong_rows(Dense(2), params, X, tolerance=1e-5) == set()


BAD_ARGUMENTS: list[tuple[Callable[[], Any], str]] = [
    (lambda: check_gradients(COST, random_params(NETWORK, X), X), r"expected data=\(x, y\)"),
    (lambda: check_gradients(lambda p, x: x, {}, X), "neither a fnnet.Cost nor a layer"),
    (lambda: check_gradients(tanh, {}, X), "neither a fnnet.Cost nor a layer"),
    (lambda: jax.jit(lambda x: check_gradients(Activation(tanh), {}, x).ok)(X), "inside a jax transformation"),
]


@pytest.mark.parametrize(("call", "message"), BAD_ARGUMENTS)
def test_bad_arguments(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_a_layer_without_a_rule_is_an_error_not_a_row() -> None:
    class Mine(Sequential): ...

    with pytest.raises(TypeError, match="has no hand-written rule"):
        check_gradients(Mine((Activation(sigmoid),)), ({},), X)
