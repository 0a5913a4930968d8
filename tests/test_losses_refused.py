"""Losses: the predictions, targets and options that must be refused, and the messages."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fnnet import bind, losses
from fnnet.backprop.losses import loss_gradient
from tests.public import public_losses

P = jnp.full((8, 10), 0.1)
ONE_HOT = jnp.eye(10, dtype=int)[:8]
CLASS_LOSSES = [losses.cross_entropy, losses.softmax_cross_entropy, losses.focal]
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
REAL_LOSSES = [
    losses.squared_error,
    losses.half_squared_error,
    losses.absolute_error,
    losses.huber,
    losses.log_cosh,
    losses.cosine,
    losses.kl_divergence,
]
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
SIGNS = jnp.where(ONE_HOT == 1, 1, -1)
SIGN_LOSSES = [losses.hinge, losses.squared_hinge]
SIGN_REFUSED = [
    (P, SIGNS[:, :1], ValueError, SAME.format(r"\(8, 1\)")),
    (P, SIGNS[:, 0], ValueError, SAME.format(r"\(8,\)")),
    (P, ONE_HOT, ValueError, r"target has values such as \[0.0, 1.0\]; expected −1 or 1: map labels y to 2 \* y - 1"),
    (P, ONE_HOT == 1, ValueError, r"values such as \[0.0, 1.0\]; expected −1 or 1"),
    (P, SIGNS * 0.5, ValueError, r"values such as \[-0.5, 0.5\]"),
    (P, P * jnp.nan, ValueError, r"values such as \[nan"),
    (SIGNS, SIGNS, TypeError, "prediction has dtype int32"),
    (jnp.float32(1), jnp.float32(1), ValueError, "prediction is a scalar"),
]
COUNT_LOSSES = [losses.poisson_negative_log_likelihood]
COUNT_REFUSED = [
    (P, ONE_HOT[:, :1], ValueError, SAME.format(r"\(8, 1\)")),
    (P, ONE_HOT[0], ValueError, SAME.format(r"\(10,\)")),
    (P, SIGNS * 3, ValueError, "target has the value -3; expected counts of at least 0"),
    (P, P * jnp.nan, ValueError, "target has the value nan"),
    (ONE_HOT, ONE_HOT, TypeError, "prediction has dtype int32"),
    (jnp.float32(1), jnp.float32(1), ValueError, "prediction is a scalar"),
]
TWICE = r"; expected the prediction's last axis to be twice the target's: the means, then the log-variances"
GAUSSIAN_LOSSES = [losses.gaussian_negative_log_likelihood]
GAUSSIAN_REFUSED = [
    (P, P, ValueError, rf"target has shape \(8, 10\) but prediction \(8, 10\){TWICE}"),
    (P, P[:, 0], ValueError, rf"target has shape \(8,\) but prediction \(8, 10\){TWICE}"),
    (P, P[:4, :5], ValueError, rf"target has shape \(4, 5\) but prediction \(8, 10\){TWICE}"),
    (P, jnp.float32(1), ValueError, rf"target has shape \(\) but prediction \(8, 10\){TWICE}"),
    (P, ONE_HOT[:, :5], TypeError, "target has dtype int32"),
    (ONE_HOT, P[:, :5], TypeError, "prediction has dtype int32"),
]
REFUSED = [
    pytest.param(loss, *row, id=f"{loss.__name__}-{i}")
    for group, table in (
        (CLASS_LOSSES, CLASS_REFUSED),
        (REAL_LOSSES, REAL_REFUSED),
        (BINARY_LOSSES, BINARY_REFUSED),
        (SIGN_LOSSES, SIGN_REFUSED),
        (COUNT_LOSSES, COUNT_REFUSED),
        (GAUSSIAN_LOSSES, GAUSSIAN_REFUSED),
    )
    for loss in group
    for i, row in enumerate(table)
]


@pytest.mark.parametrize(("loss", "prediction", "target", "error", "message"), REFUSED)
def test_refused_with_its_name(
    loss: Callable[..., Any], prediction: jax.Array, target: jax.Array, error: type[Exception], message: str
) -> None:
    """By the loss and by its gradient."""
    for call in (loss, partial(loss_gradient, loss)):
        with pytest.raises(error, match=message) as caught:
            call(prediction, target)
        assert str(caught.value).startswith(f"losses.{loss.__name__}: ")


LABELS, DISTRIBUTIONS = jnp.arange(8), P
OPTIONS_REFUSED: list[tuple[dict[str, Any], jax.Array, str]] = [
    ({"smoothing": -0.1}, LABELS, r"smoothing is -0.1; expected a number in \[0, 1\]"),
    ({"smoothing": 1.1}, LABELS, "smoothing is 1.1"),
    ({"smoothing": float("nan")}, LABELS, "smoothing is nan"),
    (
        {"class_weights": (1.0,) * 9},
        LABELS,
        r"class_weights is \(1.0, .*\); expected 10 numbers of at least 0, one per",
    ),
    ({"class_weights": (1.0,) * 11}, DISTRIBUTIONS, "expected 10 numbers of at least 0, one per class"),
    ({"class_weights": (-1.0,) * 10}, LABELS, "expected 10 numbers of at least 0"),
    ({"class_weights": (float("nan"),) * 10}, LABELS, "expected 10 numbers of at least 0"),
    ({"class_weights": 2.0}, LABELS, "class_weights is 2.0; expected 10 numbers"),
]


@pytest.mark.parametrize("loss", CLASS_LOSSES)
@pytest.mark.parametrize(("options", "target", "message"), OPTIONS_REFUSED)
def test_refused_options_of_the_losses_over_classes(
    loss: Callable[..., Any], options: dict[str, Any], target: jax.Array, message: str
) -> None:
    bound = bind(loss, **options)
    for call in (bound, partial(loss_gradient, bound)):
        with pytest.raises(ValueError, match=rf"losses.{loss.__name__}: .*{message}"):
            call(P, target)


@pytest.mark.parametrize(
    ("loss", "target", "message"),
    [
        (bind(losses.huber, delta=0.0), P, "losses.huber: delta is 0.0; expected a number above 0"),
        (bind(losses.huber, delta=-1.0), P, "delta is -1.0"),
        (bind(losses.huber, delta=float("nan")), P, "delta is nan"),
        (bind(losses.focal, gamma=-1.0), LABELS, "losses.focal: gamma is -1.0; expected a number of at least 0"),
        (bind(losses.focal, gamma=float("nan")), LABELS, "gamma is nan"),
        (bind(losses.huber, delta=None), P, "losses.huber: delta is None; expected a number"),
        (bind(losses.focal, gamma=[2.0]), LABELS, r"losses.focal: gamma is \[2.0\]; expected a number"),
        (
            bind(losses.focal, class_weights=("1",) * 10),
            LABELS,
            "losses.focal: class_weights is '1'; expected a number",
        ),
    ],
)
def test_refused_options(loss: Callable[..., Any], target: jax.Array, message: str) -> None:
    """By the loss and by its gradient."""
    for call in (loss, partial(loss_gradient, loss)):
        with pytest.raises((ValueError, TypeError), match=message):
            call(P, target)


def test_every_loss_is_asked_what_it_refuses() -> None:
    groups = (CLASS_LOSSES, REAL_LOSSES, BINARY_LOSSES, SIGN_LOSSES, COUNT_LOSSES, GAUSSIAN_LOSSES)
    assert {loss for group in groups for loss in group} == public_losses()
