"""The checker in low precision: which errors count as rounding and which do not."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, check_gradients, losses, penalties, sequential, softmax, tanh
from fnnet.backprop import RULES
from tests.cases import AT_ONCE, ELEMENTWISE, LayerCase, random_params

X = jnp.asarray(np.random.default_rng(1).standard_normal((8, 3)), jnp.float32)
LABELS = jnp.array([0, 2, 1, 2, 0, 1, 1, 2])
PARAMS = random_params(Dense(4), X)
every_precision = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@pytest.mark.parametrize(
    ("case", "dtype"),
    [(case, "bfloat16" if i % 2 else "float32") for i, case in enumerate([*AT_ONCE[::4], *ELEMENTWISE[6::6]])],
    ids=str,
)
def test_healthy_layers_pass(case: LayerCase, dtype: str) -> None:
    options = {**case.options(), "dtype": dtype, "differences": False}
    report = check_gradients(case.build(), case.params("float32"), case.x("float32"), **options)
    assert report.ok, str(report)
    assert report.precision == dtype


HEALTHY_COSTS = [
    ("float32", Cost(sequential(Dense(3), softmax), losses.cross_entropy, penalties.l2(0.1)), LABELS),
    ("bfloat16", Cost(sequential(Dense(3), tanh), losses.half_squared_error), X),
]


@pytest.mark.parametrize(("dtype", "cost", "target"), HEALTHY_COSTS)
def test_healthy_costs_pass(dtype: str, cost: Cost, target: jax.Array) -> None:
    report = check_gradients(cost, random_params(cost.model, X), (X, target), dtype=dtype, differences=False)
    assert report.ok, str(report)


def spoil_weight(monkeypatch: pytest.MonkeyPatch, change: Callable[[jax.Array], jax.Array]) -> None:
    rule = RULES[Dense]

    def backward(*arguments: Any) -> Any:
        dparams, dx = rule.backward(*arguments)
        return dparams | {"w": change(dparams["w"])}, dx

    monkeypatch.setitem(RULES, Dense, rule._replace(backward=backward))


def wrong_rows(dtype: str) -> list[str]:
    report = check_gradients(Dense(4), PARAMS, X, dtype=dtype, differences=False)
    return [row.path for row in report.rows if not row.ok]


@pytest.mark.parametrize(("factor", "dtype"), [(0.99, "float32"), (0.9999, "float32"), (0.5, "bfloat16")])
def test_a_factor_is_caught(factor: float, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A factor larger than the rounding errors of the precision is found and named."""
    assert wrong_rows(dtype) == []
    spoil_weight(monkeypatch, lambda w: factor * w)
    assert wrong_rows(dtype) == ["w"]
    assert wrong_rows("float64") == ["w"]
    note = check_gradients(Dense(4), PARAMS, X, dtype="float32", differences=False).rows[2].note
    assert note.endswith(f"a factor of {factor:g}")


@every_precision
def test_what_rounding_excuses(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of one unit in the last place passes in that precision and fails in float64."""
    eps = float(jnp.finfo(dtype).eps)
    spoil_weight(monkeypatch, lambda w: w * (1 + eps))
    assert wrong_rows(dtype) == []
    assert wrong_rows("float64") == ["w"]


@every_precision
def test_a_gradient_that_is_computed_worse_than_autodiff(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient computed as the difference of two numbers 10⁴ times as large fails in low precision."""
    spoil_weight(monkeypatch, lambda w: (w + 1e4) - 1e4)
    assert wrong_rows(dtype) == ["w"]
    assert wrong_rows("float64") == []


@every_precision
def test_both_sides_are_at_the_rounded_point(dtype: str) -> None:
    """1.003 is no bfloat16 number, so the reference too is computed at the rounded number."""
    report = check_gradients(
        lambda p, x: (jnp.exp(p * 8) * x).sum(), jnp.full(4, 1.003), jnp.full(4, 0.997), dtype=dtype
    )
    assert report.ok, str(report)


def test_the_table_has_units_in_the_last_place() -> None:
    report = check_gradients(Dense(4), PARAMS, X, dtype="float32")
    lines = str(report).splitlines()
    assert "  ulps  " in lines[0]
    assert all(row.ulps is not None and row.ulps < 100 for row in report.rows)
    assert lines[-1] == "all agree (by hand against autodiff and central differences, float32)"
    assert report.tolerance is None


def test_it_is_the_precision_that_was_asked_for() -> None:
    """The gradient under test is computed in that dtype, the reference and the differences in float64."""
    seen: dict[str, set[str]] = {"test": set(), "reference": set()}

    def function(params: jax.Array, data: Any) -> jax.Array:
        seen["reference"].add(str(params.dtype))
        return jnp.square(params).sum()

    def by_hand(function: Any) -> Callable[..., Any]:
        def run(params: jax.Array, data: Any) -> Any:
            seen["test"].add(str(params.dtype))
            return jnp.square(params).sum(), 2 * params

        return run

    assert check_gradients(function, X, None, value_and_grad=by_hand, dtype="float32", differences=False).ok
    assert seen == {"test": {"float32"}, "reference": {"float32", "float64"}}  # autodiff's own error is measured too
    assert jnp.ones(1).dtype == jnp.float32
