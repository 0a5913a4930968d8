"""Losses: values against the reference, shapes, dtypes, and labels out of range."""

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
    """Also where the target has another floating-point dtype."""
    with jax.enable_x64(dtype == "float64"):
        prediction, target = case.arrays(dtype)
        targets = [target]
        if jnp.issubdtype(target.dtype, jnp.floating):
            targets += [np.asarray(target, np.float16), np.asarray(target, np.float64)]
        for y in targets:
            assert jax.eval_shape(case.loss, prediction, y).dtype == jnp.dtype(dtype)
            assert jax.eval_shape(partial(loss_gradient, case.loss), prediction, y).dtype == jnp.dtype(dtype)


@every_loss
def test_a_target_known_while_compiling(case: LossCase) -> None:
    """A target that a compiled function closes over has known values, while the prediction is traced."""
    for rows in (slice(None), slice(1), slice(0)):  # also one example, and none
        prediction, target = (a[rows] for a in case.arrays("float32"))
        value = jax.eval_shape(lambda p: case.loss(p, target), prediction)  # noqa: B023
        gradient = jax.eval_shape(lambda p: loss_gradient(case.loss, p, target), prediction)  # noqa: B023
        assert (value.shape, gradient.shape) == (prediction.shape[:-1], prediction.shape)


def test_half_squared_error_is_half_of_squared_error() -> None:
    """Over several outputs too; the values bit for bit."""
    prediction, target = (jnp.asarray(np.random.default_rng(i).standard_normal((4, 3)), "float32") for i in range(2))
    half, whole = losses.half_squared_error, losses.squared_error
    assert_identical(2 * half(prediction, target), whole(prediction, target))
    gradients = [loss_gradient(loss, prediction, target) for loss in (half, whole)]
    assert_close(2 * gradients[0], gradients[1], 1e-6)


CLASS_LOSSES = [losses.cross_entropy, losses.softmax_cross_entropy, losses.focal]


@pytest.mark.parametrize("loss", CLASS_LOSSES)
def test_out_of_range_labels_are_nan_inside_jit(loss: Callable[..., Any]) -> None:
    both = jax.jit(lambda p, y: (loss(p, y), loss_gradient(loss, p, y)))
    value, gradient = both(jnp.full((4, 10), 0.1), jnp.array([-1, 0, 9, 10]))
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
    both = jax.jit(lambda p, y: (loss(p, y), loss_gradient(loss, p, y)))
    assert_identical(both(prediction, small), both(prediction, wide))
