"""Losses: values against the reference and known answers, extremes, and every target that must be refused."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import losses
from fnnet.backprop.losses import loss_gradient
from tests import reference
from tests.cases import LOSSES, LossCase
from tests.compare import assert_close, assert_identical

every_loss = pytest.mark.parametrize("case", LOSSES, ids=str)


@every_loss
@pytest.mark.usefixtures("x64")
def test_value_equals_reference(case: LossCase) -> None:
    prediction, target = case.arrays("float64")
    value = case.loss(prediction, target)
    assert value.shape == prediction.shape[:-1]
    assert_close(value, reference.over_examples(reference.loss_reference(case.loss).value, prediction, target))


@every_loss
@pytest.mark.usefixtures("strict_ranks")
def test_nothing_is_broadcast_silently(case: LossCase) -> None:
    prediction, target = case.arrays("float32")
    assert jax.eval_shape(case.loss, prediction, target).shape == prediction.shape[:-1]
    assert jax.eval_shape(partial(loss_gradient, case.loss), prediction, target).shape == prediction.shape


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtype_is_the_predictions(case: LossCase, dtype: str) -> None:
    """Also where the target is given in another floating-point dtype."""
    with jax.enable_x64(dtype == "float64"):
        prediction, target = case.arrays(dtype)
        targets = [target]
        if jnp.issubdtype(target.dtype, jnp.floating):
            targets += [target.astype("float16"), np.asarray(target, np.float64)]
        for y in targets:
            assert jax.eval_shape(case.loss, prediction, y).dtype == jnp.dtype(dtype)
            assert jax.eval_shape(partial(loss_gradient, case.loss), prediction, y).dtype == jnp.dtype(dtype)


@every_loss
def test_one_example_is_enough_and_examples_do_not_mix(case: LossCase) -> None:
    prediction, target = case.arrays("float32")
    both = jax.jit(lambda p, y: (case.loss(p, y), loss_gradient(case.loss, p, y)))
    everything, last = both(prediction, target), both(prediction[-1:], target[-1:])
    assert_close(last, jax.tree.map(lambda a: a[-1:], everything), 1e-6)


LN2, LN3, INF = np.log(2), np.log(3), np.inf
KNOWN: list[tuple[Any, Any, Any, Any, Any]] = [
    # loss, prediction, target, value, gradient
    (losses.squared_error, [[1.0, 5.0]], [[3.0, 4.0]], [2.5], [[-2, 1]]),
    (losses.half_squared_error, [[1.0, 5.0]], [[3.0, 4.0]], [2.5], [[-2, 1]]),
    (losses.squared_error, [[3.0]], [[1.0]], [4], [[4]]),
    (losses.half_squared_error, [[3.0]], [[1.0]], [2], [[2]]),
    (losses.binary_cross_entropy, [[0.5], [0.25]], [[1], [0]], [LN2, np.log(4 / 3)], [[-2], [4 / 3]]),
    (losses.binary_cross_entropy, [[0.5, 0.5]], [[True, False]], [2 * LN2], [[-2, 2]]),
    (losses.sigmoid_cross_entropy, [[0.0, 0.0]], [[1, 0]], [2 * LN2], [[-0.5, 0.5]]),
    (losses.cross_entropy, [[0.5, 0.25, 0.25]], [1], [2 * LN2], [[0, -4, 0]]),
    (losses.cross_entropy, [[0.5, 0.5]], [[0.5, 0.5]], [LN2], [[-1, -1]]),
    (losses.softmax_cross_entropy, [[0.0, 0.0, 0.0]], [2], [LN3], [[1 / 3, 1 / 3, -2 / 3]]),
    # extremes: certain and right, certain and wrong
    (losses.binary_cross_entropy, [[0.0], [1.0]], [[0], [1]], [0, 0], [[1], [-1]]),
    (losses.binary_cross_entropy, [[0.0], [1.0]], [[1], [0]], [INF, INF], [[-INF], [INF]]),
    (losses.sigmoid_cross_entropy, [[1e4], [-1e4]], [[1], [0]], [0, 0], [[0], [0]]),
    (losses.sigmoid_cross_entropy, [[1e4], [-1e4]], [[0], [1]], [1e4, 1e4], [[1], [-1]]),
    (losses.sigmoid_cross_entropy, [[INF], [-INF]], [[1], [0]], [0, 0], [[0], [0]]),
    (losses.cross_entropy, [[0.0, 1.0]], [1], [0], [[0, -1]]),
    (losses.cross_entropy, [[0.0, 1.0]], [0], [INF], [[-INF, 0]]),
    (losses.cross_entropy, [[0.0, 1.0]], [[0.0, 1.0]], [0], [[0, -1]]),
    (losses.softmax_cross_entropy, [[1e4, -1e4, 0.0]], [0], [0], [[0, 0, 0]]),
    (losses.softmax_cross_entropy, [[1e4, -1e4, 0.0]], [1], [2e4], [[1, -1, 0]]),
    (losses.softmax_cross_entropy, [[1e4, -1e4, 0.0]], [[0.0, 0.5, 0.5]], [1.5e4], [[1, -0.5, -0.5]]),
    (losses.softmax_cross_entropy, [[-INF, 0.0]], [1], [0], [[0, 0]]),
    (losses.softmax_cross_entropy, [[-INF, 0.0]], [[0.0, 1.0]], [0], [[0, 0]]),
    # one class: always certain and always right
    (losses.cross_entropy, [[1.0]], [0], [0], [[-1]]),
    (losses.softmax_cross_entropy, [[7.0], [-1e4]], [0, 0], [0, 0], [[0], [0]]),
    (losses.softmax_cross_entropy, [[7.0]], [[1.0]], [0], [[0]]),
]


@pytest.mark.parametrize(("loss", "prediction", "target", "value", "gradient"), KNOWN)
def test_known_answers(loss: Any, prediction: Any, target: Any, value: Any, gradient: Any) -> None:
    """By hand and by autodiff; where a formula divides by zero, the limit that both name."""
    p, y = jnp.array(prediction), jnp.array(target)
    results = jax.jit(lambda p: (loss(p, y), loss_gradient(loss, p, y), jax.grad(lambda p: loss(p, y).sum())(p)))(p)
    for result, expected in zip(results, (value, gradient, gradient), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7)


def test_sigmoid_cross_entropy_keeps_small_losses() -> None:
    """exp(−40) in float32, which log(1 + exp(−40)) would round to 0."""
    assert float(losses.sigmoid_cross_entropy(jnp.array([[40.0]]), jnp.array([[1]]))[0]) == pytest.approx(np.exp(-40))


@every_loss
def test_a_target_known_while_compiling(case: LossCase) -> None:
    """Closed over by a compiled function, as a whole batch is: its values are known and the prediction's are not."""
    prediction, target = case.arrays("float32")
    for function in (case.loss, partial(loss_gradient, case.loss)):
        known = jax.eval_shape(lambda p: function(p, target), prediction)  # noqa: B023
        assert known == jax.eval_shape(function, prediction, target)


P = jnp.full((8, 10), 0.1)
ONE_HOT = jnp.eye(10, dtype=int)[:8]
CLASS_LOSSES = [losses.cross_entropy, losses.softmax_cross_entropy]
NEEDS = r"but prediction \(8, 10\) needs integer labels \(8,\) or floating-point distributions \(8, 10\)"
CLASS_REFUSED = [
    (P, jnp.zeros((8, 1), int), ValueError, rf"target has shape \(8, 1\) and dtype int32 {NEEDS}: .*target\[..., 0\]"),
    (P, ONE_HOT, ValueError, rf"shape \(8, 10\) and dtype int32 {NEEDS}: convert the one-hot rows with .astype"),
    (P, jnp.zeros(8), ValueError, rf"shape \(8,\) and dtype float32 {NEEDS}: convert labels with .astype\(int\)"),
    (P, jnp.zeros((8, 1)), ValueError, rf"shape \(8, 1\) and dtype float32 {NEEDS}$"),
    (P, jnp.zeros((1, 10)), ValueError, rf"shape \(1, 10\) and dtype float32 {NEEDS}$"),
    (P, jnp.zeros(7, int), ValueError, rf"shape \(7,\) and dtype int32 {NEEDS}$"),
    (P, jnp.zeros((), int), ValueError, rf"shape \(\) and dtype int32 {NEEDS}$"),
    (P, jnp.zeros((8, 10), bool), TypeError, rf"dtype bool {NEEDS}"),
    (P, jnp.zeros(8, bool), TypeError, rf"dtype bool {NEEDS}"),
    (P, jnp.arange(8) + 3, ValueError, r"label 10 \(first at \(7,\)\) is outside 0 .. 9, the 10 classes"),
    (P, jnp.arange(8) - 1, ValueError, r"label -1 \(first at \(0,\)\) is outside 0 .. 9"),
    (ONE_HOT, jnp.zeros(8, int), TypeError, "prediction has dtype int32; expected floating point"),
    (jnp.float32(1), jnp.zeros((), int), ValueError, "prediction is a scalar; expected classes on its last axis"),
]
SAME = r"target has shape {} but prediction \(8, 10\); they must be equal, nothing is broadcast"
REAL_LOSSES = [losses.squared_error, losses.half_squared_error]
REAL_REFUSED = [
    (P, jnp.zeros((8, 1)), ValueError, SAME.format(r"\(8, 1\)")),
    (P, jnp.zeros(8), ValueError, SAME.format(r"\(8,\)")),
    (P, jnp.zeros(()), ValueError, SAME.format(r"\(\)")),
    (P, ONE_HOT, TypeError, "target has dtype int32; expected floating point"),
    (P, jnp.zeros((8, 10), bool), TypeError, "target has dtype bool"),
    (ONE_HOT, P, TypeError, "prediction has dtype int32"),
    (jnp.float32(1), jnp.float32(1), ValueError, "prediction is a scalar"),
]
BINARY_LOSSES = [losses.binary_cross_entropy, losses.sigmoid_cross_entropy]
BINARY_REFUSED = [
    (P, jnp.zeros((8, 1)), ValueError, SAME.format(r"\(8, 1\)")),
    (P, jnp.zeros(8, int), ValueError, SAME.format(r"\(8,\)")),
    (P, P + 1, ValueError, r"target has values from 1.1 to 1.1; expected probabilities or labels in \[0, 1\]"),
    (P, ONE_HOT * 2 - 1, ValueError, "target has values from -1 to 1"),
    (P, P * jnp.nan, ValueError, "target has values from nan to nan"),
    (ONE_HOT, ONE_HOT, TypeError, "prediction has dtype int32"),
    (jnp.float32(1), jnp.float32(1), ValueError, "prediction is a scalar"),
]
REFUSED = [
    pytest.param(loss, *row, id=f"{loss.__name__}-{i}")
    for group, table in (
        (CLASS_LOSSES, CLASS_REFUSED),
        (REAL_LOSSES, REAL_REFUSED),
        (BINARY_LOSSES, BINARY_REFUSED),
    )
    for loss in group
    for i, row in enumerate(table)
]


@pytest.mark.parametrize(("loss", "prediction", "target", "error", "message"), REFUSED)
def test_refused_with_its_name(
    loss: Callable[..., Any], prediction: jax.Array, target: jax.Array, error: type[Exception], message: str
) -> None:
    """By the loss and by its gradient alike."""
    for call in (loss, partial(loss_gradient, loss)):
        with pytest.raises(error, match=message) as caught:
            call(prediction, target)
        assert str(caught.value).startswith(f"losses.{loss.__name__}: ")


@pytest.mark.parametrize("loss", CLASS_LOSSES)
def test_out_of_range_labels_are_nan_inside_jit(loss: Callable[..., Any]) -> None:
    labels = jnp.array([-1, 0, 9, 10])
    value = jax.jit(loss)(P[:4], labels)
    gradient = jax.jit(lambda p, y: loss_gradient(loss, p, y))(P[:4], labels)
    np.testing.assert_array_equal(np.isnan(value), [True, False, False, True])
    np.testing.assert_array_equal(np.isnan(gradient).all(-1), [True, False, False, True])
    np.testing.assert_array_equal(np.isnan(gradient).any(-1), [True, False, False, True])


@pytest.mark.parametrize("loss", CLASS_LOSSES)
@pytest.mark.parametrize(("dtype", "classes"), [("uint8", 300), ("int8", 128)])
def test_labels_of_a_small_dtype_with_more_classes_than_it_has(
    loss: Callable[..., Any], dtype: str, classes: int
) -> None:
    prediction = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(classes), 3), "float32")
    labels = np.array([0, 5, 127])
    small, wide = jnp.asarray(labels, dtype), jnp.asarray(labels)
    np.testing.assert_array_equal(loss(prediction, small), loss(prediction, wide))
    both = jax.jit(lambda p, y: (loss(p, y), loss_gradient(loss, p, y)))
    assert_identical(both(prediction, small), both(prediction, wide))
