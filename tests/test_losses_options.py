"""Smoothing, class weights and ignored labels, alone and in a cost."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import Cost, Dense, backprop, bind, losses, penalties, sequential, softmax
from fnnet.backprop.losses import loss_gradient
from tests.cases import SEED, random_params
from tests.compare import assert_close

every_class_loss = pytest.mark.parametrize("loss", [losses.cross_entropy, losses.softmax_cross_entropy, losses.focal])
Loss = Callable[..., jax.Array]
IGNORED = -100
LABELS = jnp.array([0, IGNORED, 2, 1, IGNORED])
COUNTED = np.array([0, 2, 3])


def random(*shape: int) -> jax.Array:
    """Normal numbers, in float64 where that is enabled."""
    return jnp.asarray(np.random.default_rng(SEED).standard_normal(shape), jnp.result_type(float))


def both(loss: Loss, prediction: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    return loss(prediction, target), loss_gradient(loss, prediction, target)


@every_class_loss
@pytest.mark.usefixtures("x64")
def test_labels_are_one_hot_distributions(loss: Loss) -> None:
    """Under every option that both kinds of targets know."""
    options = {"smoothing": 0.1, "class_weights": (1.0, 2.0, 0.5)}
    p, labels = softmax(random(4, 3)), jnp.array([0, 2, 1, 1])
    one_hot = jnp.eye(3)[labels]
    assert_close(both(bind(loss, **options), p, labels), both(bind(loss, **options), p, one_hot), 1e-14)


@every_class_loss
@pytest.mark.usefixtures("x64")
def test_options_that_change_nothing(loss: Loss) -> None:
    p, labels = softmax(random(4, 3)), jnp.array([0, 2, 1, 1])
    for options in ({"smoothing": 0.0}, {"class_weights": (1.0, 1.0, 1.0)}, {"ignore_label": IGNORED}):
        assert_close(both(bind(loss, **options), p, labels), both(loss, p, labels), 1e-14)


@pytest.mark.usefixtures("x64")
def test_from_logits_is_after_softmax() -> None:
    """``softmax_cross_entropy(z) = cross_entropy(softmax(z))`` and ``focal`` of γ = 0, under all options at once."""
    options = {"smoothing": 0.1, "class_weights": (1.0, 2.0, 0.5), "ignore_label": IGNORED}
    z = random(5, 3)
    value = bind(losses.softmax_cross_entropy, **options)(z, LABELS)
    assert_close(bind(losses.cross_entropy, **options)(softmax(z), LABELS), value, 1e-14)
    assert_close(bind(losses.focal, gamma=0.0, **options)(z, LABELS), value, 1e-14)


@every_class_loss
def test_an_ignored_example_costs_nothing(loss: Loss) -> None:
    """Compiled or not; also where its prediction is that of padding, no distribution."""
    p = jnp.full((5, 3), 1 / 3).at[1].set(0)
    ignoring = bind(loss, ignore_label=IGNORED)
    for run in (both, jax.jit(both, static_argnums=0)):
        value, gradient = run(ignoring, p, LABELS)
        assert (np.asarray(value) == 0).tolist() == [False, True, False, False, True]
        assert (np.asarray(gradient) == 0).all(-1).tolist() == [False, True, False, False, True]


@every_class_loss
@pytest.mark.parametrize(("dtype", "ignored"), [("uint8", 255), ("uint8", 0), ("int8", -1), ("int32", 2)])
def test_ignored_labels_of_every_dtype(loss: Loss, dtype: str, ignored: int) -> None:
    """Also a label that is a class."""
    labels = jnp.array([1, ignored, 1], dtype)
    cost = Cost(sequential(), bind(loss, ignore_label=ignored))
    p = softmax(random(3, 3))
    expected = loss(p, jnp.array([1, 1, 1]))[jnp.array([0, 2])].mean()
    for run in (cost, jax.jit(cost)):
        assert float(run((), (p, labels))) == pytest.approx(float(expected), rel=1e-6)


@every_class_loss
def test_ignoring_a_label_that_the_dtype_cannot_hold(loss: Loss) -> None:
    """Bytes never are −1: all of them count."""
    labels, p = jnp.array([1, 0, 2], "uint8"), softmax(random(3, 3))
    cost = Cost(sequential(), bind(loss, ignore_label=-1))
    for run in (cost, jax.jit(cost)):
        assert float(run((), (p, labels))) == pytest.approx(float(loss(p, labels).mean()), rel=1e-6)


HEADS = {losses.cross_entropy: softmax}


def network(loss: Loss, **options: Any) -> tuple[Cost, Any]:
    layers = [Dense(3), HEADS[loss]] if loss in HEADS else [Dense(3)]
    model = sequential(*layers)
    cost = Cost(model, bind(loss, ignore_label=IGNORED, **options), penalties.l2(0.3))
    return cost, random_params(model, random(5, 2))


@every_class_loss
@pytest.mark.usefixtures("x64")
def test_the_mean_is_over_the_counted_ones(loss: Loss) -> None:
    """The cost and its gradients, by hand and by autodiff, are those of the subset; the penalty is not divided."""
    cost, params = network(loss, smoothing=0.1)
    x = random(5, 2)

    @jax.jit
    def engines(x: jax.Array, labels: jax.Array) -> Any:
        return [of(cost)(params, (x, labels)) for of in (jax.value_and_grad, backprop.value_and_grad)]

    with_ignored, without = engines(x, LABELS), engines(x[COUNTED], LABELS[COUNTED])
    assert_close(with_ignored, without)
    assert_close(with_ignored[1], with_ignored[0])


@every_class_loss
def test_all_ignored_costs_the_penalty_alone(loss: Loss) -> None:
    """0 and not 0 / 0, and no gradient but the penalty's."""
    cost, params = network(loss)
    batch = (random(5, 2), jnp.full(5, IGNORED))
    for of in (jax.value_and_grad, backprop.value_and_grad):
        value, grads = jax.jit(of(cost))(params, batch)
        assert float(value) == pytest.approx(float(cost.penalty(params)), rel=1e-6)
        np.testing.assert_allclose(grads[0]["w"], 0.3 * params[0]["w"], rtol=1e-6)
        np.testing.assert_array_equal(grads[0]["b"], np.zeros(3))


def test_the_mean_over_positions() -> None:
    """Sequences of different lengths, padded with an ignored label: every real position counts once."""
    labels = jnp.array([[0, 1, 2, 1], [2, IGNORED, IGNORED, IGNORED]])
    z = random(2, 4, 3)
    cost = Cost(sequential(), bind(losses.softmax_cross_entropy, ignore_label=IGNORED))
    real = losses.softmax_cross_entropy(jnp.concatenate([z[0], z[1, :1]]), jnp.array([0, 1, 2, 1, 2]))
    assert float(cost((), (z, labels))) == pytest.approx(float(real.mean()), rel=1e-6)


def test_other_labels_out_of_range_are_still_nan() -> None:
    ignoring = bind(losses.softmax_cross_entropy, ignore_label=IGNORED)
    value = jax.jit(partial(ignoring))(jnp.zeros((3, 3)), jnp.array([IGNORED, 3, -1]))
    np.testing.assert_array_equal(np.isnan(value), [False, True, True])
