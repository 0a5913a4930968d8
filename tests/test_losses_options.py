"""Smoothing and class weights of the losses over classes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import bind, losses, softmax
from fnnet.backprop.losses import loss_gradient
from tests.cases import SEED
from tests.compare import assert_close

every_class_loss = pytest.mark.parametrize("loss", [losses.cross_entropy, losses.softmax_cross_entropy, losses.focal])
pytestmark = pytest.mark.usefixtures("x64")
Loss = Callable[..., jax.Array]
LABELS = np.array([0, 2, 1, 1])
OPTIONS = {"smoothing": 0.1, "class_weights": (1.0, 2.0, 0.5)}


def logits() -> jax.Array:
    return jnp.asarray(np.random.default_rng(SEED).standard_normal((4, 3)))


def both(loss: Loss, prediction: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    return loss(prediction, target), loss_gradient(loss, prediction, target)


@every_class_loss
def test_labels_are_one_hot_distributions(loss: Loss) -> None:
    """Under both options at once."""
    p, one_hot, bound = softmax(logits()), jnp.eye(3)[LABELS], bind(loss, **OPTIONS)
    assert_close(both(bound, p, jnp.asarray(LABELS)), both(bound, p, one_hot), 1e-14)


@every_class_loss
def test_options_that_change_nothing(loss: Loss) -> None:
    p, labels = softmax(logits()), jnp.asarray(LABELS)
    for options in ({"smoothing": 0.0}, {"class_weights": (1.0, 1.0, 1.0)}):
        assert_close(both(bind(loss, **options), p, labels), both(loss, p, labels), 1e-14)


def test_from_logits_is_after_softmax() -> None:
    """``softmax_cross_entropy(z) = cross_entropy(softmax(z))`` and ``focal`` of γ = 0, under both options."""
    z, labels = logits(), jnp.asarray(LABELS)
    value = bind(losses.softmax_cross_entropy, **OPTIONS)(z, labels)
    assert_close(bind(losses.cross_entropy, **OPTIONS)(softmax(z), labels), value, 1e-14)
    assert_close(bind(losses.focal, gamma=0.0, **OPTIONS)(z, labels), value, 1e-14)
