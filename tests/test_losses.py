"""Losses: values against the reference, shapes, dtypes, and labels that are no labels."""

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
            targets += [np.asarray(target, np.float16), np.asarray(target, np.float64)]
        for y in targets:
            assert jax.eval_shape(case.loss, prediction, y).dtype == jnp.dtype(dtype)
            assert jax.eval_shape(partial(loss_gradient, case.loss), prediction, y).dtype == jnp.dtype(dtype)


@every_loss
def test_a_target_known_while_compiling(case: LossCase) -> None:
    """Closed over by a compiled function, as a whole batch is: its values are known and the prediction's are not."""
    for rows in (slice(None), slice(1), slice(0)):  # one example is enough, and none is no error
        prediction, target = (a[rows] for a in case.arrays("float32"))
        value = jax.eval_shape(lambda p: case.loss(p, target), prediction)  # noqa: B023
        gradient = jax.eval_shape(lambda p: loss_gradient(case.loss, p, target), prediction)  # noqa: B023
        assert (value.shape, gradient.shape) == (prediction.shape[:-1], prediction.shape)


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
