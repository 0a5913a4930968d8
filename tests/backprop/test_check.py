"""The checker: its arguments, its report, and no false alarm for correct gradients."""

import re
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
    GaussianNoise,
    Sequential,
    backprop,
    check_gradients,
    losses,
    penalties,
    sequential,
    sigmoid,
    tanh,
)
from fnnet.backprop import RULES
from fnnet.backprop.check import compare_trees
from tests.cases import AT_ONCE, ELEMENTWISE, LOSSES, SEED, LayerCase, LossCase, random_params

X = jnp.asarray(np.random.default_rng(1).standard_normal((4, 3)), jnp.float32)
LABELS = jnp.array([0, 2, 1, 2])
NETWORK = sequential(Dense(3), tanh, Dense(3))
COST = Cost(NETWORK, losses.softmax_cross_entropy, penalties.l2(0.1))


@pytest.mark.parametrize("case", [*AT_ONCE[::2], *ELEMENTWISE[::3]], ids=str)
def test_healthy_layers_pass(case: LayerCase) -> None:
    report = check_gradients(case.build(), case.params("float32"), case.x("float32"), **case.options())
    assert report.ok, str(report)
    assert report.rows[0].path == "y"
    assert report.rows[-1].path == "x"
    assert len(report.rows) == 2 + len(jax.tree.leaves(case.params("float32")))
    assert all(row.differences is not None for row in report.rows[1:])  # at least one probe does not cross a kink


def cost_of(case: LossCase) -> tuple[Cost, Any, tuple[jax.Array, jax.Array]]:
    prediction, target = case.arrays("float32")
    model = sequential(Dense(prediction.shape[-1]), case.head)
    x = jnp.asarray(np.random.default_rng(SEED + 3).standard_normal((*prediction.shape[:-1], 2)), jnp.float32)
    return Cost(model, case.loss, penalties.elastic_net(0.1, 0.2)), random_params(model, x), (x, target)


@pytest.mark.parametrize("case", LOSSES[::6], ids=str)
def test_healthy_costs_pass(case: LossCase) -> None:
    report = check_gradients(*cost_of(case))
    assert report.ok, str(report)
    assert [row.path for row in report.rows] == ["value", "0.b", "0.w"]


def test_precision_does_not_depend_on_the_default() -> None:
    """It computes in float64 also for bfloat16 arguments, and does not change the default precision."""
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


def test_numpy_arrays_and_bare_numbers_are_taken() -> None:
    params = jax.tree.map(np.asarray, random_params(NETWORK, X))
    assert check_gradients(COST, params, (np.asarray(X), np.asarray(LABELS)), differences=False).ok
    assert check_gradients(lambda p, data: p["a"] ** 2 * data, {"a": 3.0}, 2.0).ok


def test_an_old_fashioned_key_and_a_new_one() -> None:
    """The checker draws the same random numbers several times from one key."""
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        assert check_gradients(Dropout(0.5), {}, X, key=key, train=True).ok
    noisy = Cost(GaussianNoise(0.5), losses.squared_error)
    key = jax.random.key(1)
    report = check_gradients(noisy, {}, (X, X), key=key, train=True)
    assert report.ok
    assert [row.path for row in report.rows] == ["value"]
    assert check_gradients(noisy, {}, (X, X), key=key, train=True) == report  # the key is not used up


def test_the_value_under_a_key_is_the_costs_own() -> None:
    """The rule and autodiff draw the same random numbers; with others ``value`` would differ."""
    model = sequential(Dropout(0.5), NETWORK)
    report = check_gradients(model, random_params(model, X), X, key=jax.random.key(0), train=True, differences=False)
    assert report.ok
    assert report.rows[0].absolute == 0


def test_the_seed_chooses_the_cotangent() -> None:
    params = random_params(Dense(2), X)
    zeroes: list[float] = []
    for seed in range(2):
        assert check_gradients(Dense(2), params, X, seed=seed).ok
        zeroes.append(check_gradients(Dense(2), params, X, seed=seed).rows[1].differences or 0.0)
    assert zeroes[0] != zeroes[1]


def test_the_table() -> None:
    report = check_gradients(Dense(2), random_params(Dense(2), X), X)
    lines = str(report).splitlines()
    header = ["tensor", "shape", "max abs error", "max rel error", "cosine", "differences"]
    assert re.split(r"  +", lines[0]) == header
    assert [line.split()[:2] for line in lines[1:-1]] == [["y", "4×2"], ["b", "2"], ["w", "3×2"], ["x", "4×3"]]
    assert lines[1].split()[-2:] == ["1.000000", "ok"]
    assert all(len(line.split()) == 7 and line.endswith("  ok") for line in lines[2:-1])
    verdict = "all agree (by hand against autodiff and central differences, float64, relative tolerance 1e-10)"
    assert lines[-1] == verdict


def test_the_table_without_differences_or_a_rule() -> None:
    alone = str(check_gradients(Dense(2), random_params(Dense(2), X), X, differences=False))
    assert "  differences" not in alone
    assert alone.endswith("all agree (by hand against autodiff, float64, relative tolerance 1e-10)")
    function = str(check_gradients(lambda p, x: (p * x).sum(), X, X))
    assert "params  4×3" in function
    assert function.endswith("all agree (autodiff against central differences, float64, relative tolerance 1e-10)")


def test_the_table_of_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    backward = RULES[Dense].backward

    def off(*arguments: Any) -> Any:
        dparams, dx = backward(*arguments)
        return {"w": dparams["w"] * 2, "extra": dx}, dx.T

    monkeypatch.setitem(RULES, Dense, RULES[Dense]._replace(backward=off))
    report = check_gradients(Dense(2), random_params(Dense(2), X), X)
    assert not report.ok
    assert np.isnan(report.worst)
    text = str(report)
    rows = {line.split()[0]: line for line in text.splitlines()[1:6]}
    assert rows["w"].split()[3:5] == ["1.00e+00", "1.000000"]
    assert [name for name, line in rows.items() if line.endswith("DIFFERS")] == ["b", "w", "x", "extra"]
    assert "\nb: missing by hand\n" in text
    assert "\nx: by hand of shape (3, 4), the transpose\n" in text
    assert "\nextra: autodiff has no such tensor\n" in text
    assert "\nw: at [" in text
    assert ": a factor of 2\n" in text
    assert "\ndiffer: b, w, x, extra (by hand against" in text


def row_of(m: Any, a: Any, tolerance: float) -> Any:
    return compare_trees([("w", np.array(m))], [("w", np.array(a))], tolerance)[0]


def test_the_numbers_of_a_row() -> None:
    row = row_of([3.0, 4.5], [3.0, 4.0], 0.2)
    assert (row.path, row.shape, row.absolute, row.relative, row.ok) == ("w", (2,), 0.5, 0.125, True)
    assert row.cosine == pytest.approx((9 + 18) / (np.hypot(3, 4.5) * 5))
    assert not row_of([3.0, 4.5], [3.0, 4.0], 0.1).ok


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
    assert row_of(by_hand, by_autodiff, 1e-10).ok == ok


def test_rows_are_matched_by_name() -> None:
    rows = compare_trees([("a", np.ones(1)), ("b", np.zeros(1))], [("b", np.zeros(1)), ("a", np.ones(1))], 1e-10)
    assert [(row.path, row.ok) for row in rows] == [("b", True), ("a", True)]


def test_the_tolerance_is_the_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    backward = RULES[Dense].backward
    scaled = RULES[Dense]._replace(backward=lambda *a: jax.tree.map(lambda g: g * (1 + 1e-6), backward(*a)))
    monkeypatch.setitem(RULES, Dense, scaled)
    params = random_params(Dense(2), X)
    report = check_gradients(Dense(2), params, X, differences=False)
    assert [row.path for row in report.rows if not row.ok] == ["b", "w", "x"]
    assert check_gradients(Dense(2), params, X, tolerance=1e-5, differences=False).ok


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: check_gradients(COST, random_params(NETWORK, X), X), TypeError, r"expected data=\(x, y\)"),
    (
        lambda: check_gradients(3, {}, X),
        TypeError,
        "3 is neither a fnnet.Cost, a layer with init and apply, nor",
    ),
    (
        lambda: check_gradients(Dense(2), {}, X, value_and_grad=jax.value_and_grad),
        TypeError,
        "a layer is checked by its rule in fnnet.backprop.RULES, not by value_and_grad=",
    ),
    (
        lambda: check_gradients(lambda p, x: p * x, X, X, value_and_grad=jax.value_and_grad),
        ValueError,
        r"the function gives shape \(4, 3\); with value_and_grad= it must give a scalar",
    ),
    (
        lambda: jax.jit(lambda x: check_gradients(Activation(tanh), {}, x).ok)(X),
        TypeError,
        "called inside a jax transformation; it compares numbers, call it outside",
    ),
    (lambda: jax.grad(lambda p: check_gradients(tanh_sum, p, X).worst)(X), TypeError, "inside a jax transformation"),
]


def tanh_sum(params: Any, data: Any) -> jax.Array:
    return jnp.tanh(params).sum()


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"check_gradients: .*{message}"):
        call()


def test_a_layer_without_a_rule_is_checked_by_differences() -> None:
    """Alone it is checked by differences. Inside a layer with a rule it raises."""

    class Mine(Sequential): ...

    layer = Mine((Activation(sigmoid),))
    report = check_gradients(layer, ({},), X)
    assert report.ok
    assert report.compared == "autodiff against central differences"
    with pytest.raises(TypeError, match="has no hand-written rule"):
        check_gradients(sequential(layer), (({},),), X)


def test_a_custom_vjp_layer_is_checked_by_its_rule() -> None:
    report = check_gradients(backprop.as_custom_vjp(NETWORK), random_params(NETWORK, X), X)
    assert report.ok
    assert report.compared == "by hand against autodiff and central differences"
