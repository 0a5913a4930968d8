"""Losses where their formulas are at an edge: targets of 0 and 1, infinite logits, options that are traced."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import bind, losses
from fnnet.backprop.losses import loss_gradient
from fnnet.binding import name_of, unbind
from tests.public import public_losses

Derivative = Callable[[np.ndarray, np.ndarray], np.ndarray]
ONE_HOT, EVERYWHERE = [0.0, 1.0, 0.0], [10.0, 1.0, -2.0]
CHANCES = [0.2, 0.7, 0.1]
EULER = 0.5772156649015329
CLASS_WEIGHTS = (2.0, 0.5, 3.0)


def log_softmax(z: np.ndarray) -> np.ndarray:
    return z - z.max() - np.log(np.exp(z - z.max()).sum())


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def log_of_target(t: np.ndarray) -> np.ndarray:
    return np.array([-np.inf if y == 0 else np.log(y) for y in t])


# loss, prediction, target, ∂ℓ/∂target
OF_TARGETS: list[tuple[Any, list[float], list[float], Derivative]] = [
    (losses.squared_error, EVERYWHERE, ONE_HOT, lambda a, t: 2 / 3 * (t - a)),
    (losses.half_squared_error, EVERYWHERE, ONE_HOT, lambda a, t: (t - a) / 3),
    (losses.absolute_error, EVERYWHERE, ONE_HOT, lambda a, t: np.sign(t - a) / 3),
    (losses.huber, EVERYWHERE, ONE_HOT, lambda a, t: np.clip(t - a, -1, 1) / 3),
    (losses.log_cosh, EVERYWHERE, ONE_HOT, lambda a, t: np.tanh(t - a) / 3),
    (losses.cosine, EVERYWHERE, ONE_HOT, lambda a, t: (unit(a) @ unit(t) * unit(t) - unit(a)) / np.linalg.norm(t)),
    (losses.binary_cross_entropy, CHANCES, ONE_HOT, lambda p, t: np.log(1 - p) - np.log(p)),
    (losses.sigmoid_cross_entropy, EVERYWHERE, ONE_HOT, lambda z, t: -z),
    (losses.hinge, [0.5, -3.0, 2.0], [1.0, -1.0, 1.0], lambda a, t: np.where(t * a < 1, -a, 0)),
    (losses.squared_hinge, [0.5, -3.0, 2.0], [1.0, -1.0, 1.0], lambda a, t: -2 * a * np.maximum(0, 1 - t * a)),
    (losses.cross_entropy, CHANCES, ONE_HOT, lambda p, t: -np.log(p)),
    (losses.softmax_cross_entropy, EVERYWHERE, ONE_HOT, lambda z, t: -log_softmax(z)),
    (bind(losses.softmax_cross_entropy, smoothing=0.2), EVERYWHERE, ONE_HOT, lambda z, t: -0.8 * log_softmax(z)),
    (
        bind(losses.softmax_cross_entropy, class_weights=CLASS_WEIGHTS),
        EVERYWHERE,
        ONE_HOT,
        lambda z, t: -np.array(CLASS_WEIGHTS) * log_softmax(z),
    ),
    (losses.focal, EVERYWHERE, ONE_HOT, lambda z, t: -((1 - np.exp(log_softmax(z))) ** 2) * log_softmax(z)),
    (losses.kl_divergence, CHANCES, ONE_HOT, lambda p, t: log_of_target(t) + 1 - np.log(p)),
    (
        losses.poisson_negative_log_likelihood,
        EVERYWHERE,
        ONE_HOT,
        lambda z, t: t - EULER - z,  # the digamma function is −γ at 1 and 1 − γ at 2
    ),
    (losses.gaussian_negative_log_likelihood, [0.3, 1.0, -1.0, 0.5], [0.0, 1.0], None),
]


@pytest.mark.parametrize(("loss", "prediction", "target", "expected"), OF_TARGETS, ids=lambda v: name_of(v)[:40])
@pytest.mark.usefixtures("x64")
def test_gradient_of_the_target(loss: Any, prediction: list[float], target: list[float], expected: Any) -> None:
    """At targets of exactly 0 and 1, compiled and not."""
    a, t = np.array(prediction), np.array(target)
    right = (t - a[:2]) * np.exp(-a[2:]) if expected is None else expected(a, t)

    def of(target: jax.Array) -> jax.Array:
        return loss(jnp.asarray(a)[None], target[None]).sum()

    for grad in (jax.grad(of), jax.jit(jax.grad(of))):
        np.testing.assert_allclose(grad(jnp.asarray(t)), right, rtol=1e-12, atol=1e-15)


def test_every_loss_has_a_gradient_of_the_target() -> None:
    assert {unbind(row[0])[0] for row in OF_TARGETS} == public_losses()


@pytest.mark.usefixtures("x64")
def test_gradient_of_the_target_against_pytorch() -> None:
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    pairs = [
        (losses.softmax_cross_entropy, EVERYWHERE, lambda z, t: f.cross_entropy(z, t, reduction="sum")),
        (
            losses.sigmoid_cross_entropy,
            EVERYWHERE,
            lambda z, t: f.binary_cross_entropy_with_logits(z, t, reduction="sum"),
        ),
        (losses.binary_cross_entropy, CHANCES, lambda p, t: f.binary_cross_entropy(p, t, reduction="sum")),
        (losses.kl_divergence, CHANCES, lambda p, t: (-torch.special.entr(t) - t * p.log()).sum()),
        (
            losses.poisson_negative_log_likelihood,
            EVERYWHERE,
            lambda z, t: (z.exp() - t * z + torch.lgamma(t + 1)).sum(),
        ),
    ]
    for loss, prediction, peer in pairs:
        theirs = [torch.tensor([row], dtype=torch.float64, requires_grad=True) for row in (prediction, ONE_HOT)]
        peer(*theirs).backward()
        ours = jax.grad(lambda p, t: loss(p, t).sum(), (0, 1))(jnp.array([prediction]), jnp.array([ONE_HOT]))  # noqa: B023
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other.grad, rtol=1e-12, atol=1e-15, err_msg=name_of(loss))


INF, LARGEST = np.inf, 3.4e38
CLASS_EDGES = [
    ([-INF, 0, 0], [0, 1, 2]),
    ([INF, 0, 0], [0, 1, 2]),
    ([-INF, -INF, 1], [0, 2]),
    ([LARGEST, -LARGEST, 0], [0, 1, 2]),
    ([LARGEST, LARGEST, LARGEST], [0]),
    ([-LARGEST, 0, LARGEST], [0, 1, 2]),
    ([-200, 0, 200], [0, 1, 2]),
]
NUMBERS = [0, 1, -1, 89, -104, 1e4, -1e4, 1e30, -1e30, LARGEST, -LARGEST, INF, -INF]
PROBABILITIES = [0, 1e-45, 1e-38, 0.5, 1 - 2**-24, 1]


def of_labels() -> tuple[np.ndarray, np.ndarray]:
    rows = [(z, label) for z, labels in CLASS_EDGES for label in labels]
    return np.array([z for z, _ in rows], np.float32), np.array([label for _, label in rows])


def with_each(predictions: list[float], targets: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return every prediction with every target, as single outputs."""
    grid = np.array([(p, t) for p in predictions for t in targets], np.float32)
    return grid[:, :1], grid[:, 1:]


EDGES: list[tuple[Any, tuple[np.ndarray, np.ndarray]]] = [
    *((loss, of_labels()) for loss in (losses.softmax_cross_entropy, losses.focal)),
    (bind(losses.focal, gamma=0.5), of_labels()),
    (bind(losses.softmax_cross_entropy, class_weights=(0.0, 1.0, 2.0)), of_labels()),
    (losses.sigmoid_cross_entropy, with_each(NUMBERS, [0, 0.3, 1])),
    (losses.poisson_negative_log_likelihood, with_each(NUMBERS, [0, 1, 3, 1000])),
    (losses.binary_cross_entropy, with_each(PROBABILITIES, [0, 0.3, 1])),
    (losses.kl_divergence, with_each(PROBABILITIES, [0, 0.3, 1])),
    (losses.hinge, with_each(NUMBERS, [-1, 1])),
    (losses.squared_hinge, with_each(NUMBERS, [-1, 1])),
    *(
        (loss, with_each(NUMBERS, [0]))
        for loss in (losses.squared_error, losses.absolute_error, losses.huber, losses.log_cosh)
    ),
]


@pytest.mark.parametrize(("loss", "arrays"), EDGES, ids=lambda v: name_of(v) if callable(v) else "")
def test_infinite_and_huge_predictions(loss: Any, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    """Never NaN, compiled or not; autodiff gives the gradient by hand, unless a class has the logit ∞ (it gives 0)."""
    prediction, target = (jnp.asarray(a) for a in arrays)

    def results(p: jax.Array) -> tuple[jax.Array, ...]:
        return loss(p, target), loss_gradient(loss, p, target), jax.grad(lambda p: loss(p, target).sum())(p)

    eager, compiled = results(prediction), jax.jit(results)(prediction)
    for value, by_hand, autodiff in (eager, compiled):
        assert not np.isnan(value).any(), prediction[np.isnan(value)]
        assert not np.isnan(by_hand).any(), prediction[np.isnan(by_hand).any(-1)]
        assert not np.isnan(autodiff).any()
        same = (np.asarray(prediction) < INF).all(-1) | (prediction.shape[-1] == 1)
        np.testing.assert_allclose(autodiff[same], by_hand[same], rtol=1e-5, atol=1e-6)
    for one, other in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_known_answers_at_the_edges() -> None:
    """An infinite rate costs infinitely much; with a logit of −∞ the other two share the probability."""
    poisson, z = losses.poisson_negative_log_likelihood, jnp.array([[3.4e38], [np.inf], [89.0]])
    for run in (poisson, jax.jit(poisson)):
        np.testing.assert_array_equal(run(z, jnp.array([[3], [0], [1]])), [np.inf] * 3)
    focal = jax.grad(lambda z: losses.focal(z, jnp.array([1])).sum())
    for grad in (focal, jax.jit(focal)):
        np.testing.assert_allclose(grad(jnp.array([[-np.inf, 0, 0]])), [[0, -0.298287, 0.298287]], rtol=1e-5)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.softmax_cross_entropy, losses.focal], ids=name_of)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_label_out_of_range_is_nan_for_both_engines(loss: Any, dtype: str) -> None:
    """Also where a probability is 0, a class weight is 0, or a label is smoothed."""
    p = jnp.array([[0.0, 0.25, 0.75], [0.2, 0.3, 0.5]], "float32")
    for options in ({}, {"smoothing": 0.1, "class_weights": (1.0, 0.0, 2.0)}, {"smoothing": 1.0}):
        bound = bind(loss, **options)

        @jax.jit
        def run(p: jax.Array, y: jax.Array) -> Any:
            return (
                bound(p, y),  # noqa: B023
                loss_gradient(bound, p, y),  # noqa: B023
                jax.grad(lambda p: bound(p, y).sum())(p),  # noqa: B023
            )

        for result in run(p, jnp.array([7, 1], dtype)):
            assert np.isnan(result[0]).all()
            assert np.isfinite(result[1]).all()


OPTIONS: list[tuple[Any, dict[str, Any]]] = [
    (losses.huber, {"delta": 0.3}),
    (losses.cross_entropy, {"smoothing": 0.1, "class_weights": (1.0, 2.0, 0.5)}),
    (losses.softmax_cross_entropy, {"smoothing": 0.1, "class_weights": (1.0, 2.0, 0.5)}),
    (losses.focal, {"gamma": 1.5, "smoothing": 0.1, "class_weights": (1.0, 2.0, 0.5)}),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("loss", "options"), OPTIONS, ids=lambda v: name_of(v) if callable(v) else "")
def test_options_may_be_traced(loss: Any, options: dict[str, Any], dtype: str) -> None:
    """Many values of them in one program, for the loss and its gradient by hand."""
    prediction = jnp.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], dtype)
    target = prediction[::-1] if loss is losses.huber else jnp.array([0, 2])

    def results(options: Any) -> Any:
        bound = bind(loss, **options)
        return bound(prediction, target), loss_gradient(bound, prediction, target)

    both = [options, jax.tree.map(lambda number: number / 2, options)]
    stacked = jax.tree.map(lambda *numbers: jnp.array(numbers, "float32"), *both)
    found = jax.jit(jax.vmap(results))(stacked)
    for i, each in enumerate(both):
        for one, other in zip(jax.tree.map(lambda a: a[i], found), results(each), strict=True):  # noqa: B023
            assert one.dtype == prediction.dtype
            np.testing.assert_allclose(
                *(np.asarray(a, "float32") for a in (one, other)), rtol=3e-2 if dtype == "bfloat16" else 1e-5, atol=1e-6
            )


@pytest.mark.parametrize("loss", sorted(public_losses(), key=name_of), ids=name_of)
def test_no_outputs_and_no_arrays_are_refused(loss: Any) -> None:
    with pytest.raises(ValueError, match=rf"losses.{loss.__name__}: "):
        loss(jnp.ones((4, 0)), jnp.ones((4, 0)))
    with pytest.raises(TypeError, match=rf"losses.{loss.__name__}: target is of the type dict; expected one array"):
        loss(jnp.ones((4, 2)), {"a": jnp.ones((4, 2))})


SINGLE = [losses.softmax_cross_entropy, losses.focal]
PROBABLE = [losses.cross_entropy, losses.kl_divergence, losses.binary_cross_entropy]


@pytest.mark.parametrize("loss", SINGLE, ids=name_of)
def test_a_single_logit_is_refused(loss: Any) -> None:
    for target in (jnp.zeros(4, int), jnp.ones((4, 1))):
        with pytest.raises(ValueError, match=rf"losses.{loss.__name__}: .*a single logit, whose softmax is always 1"):
            loss(jnp.ones((4, 1)), target)


@pytest.mark.parametrize("loss", PROBABLE, ids=name_of)
def test_logits_are_no_probabilities(loss: Any) -> None:
    """Where they are known; what rounding makes of 1 is taken, and so is NaN."""
    y = jnp.array([[1.0, 0.0]])
    for call in (loss, lambda p, y: loss_gradient(loss, p, y)):
        for bad in ([[2.0, 0.0]], [[0.5, -0.1]]):
            with pytest.raises(ValueError, match=rf"losses.{loss.__name__}: .*expected probabilities in \[0, 1\]"):
                call(jnp.array(bad), y)
        call(jnp.array([[1 + 2**-23, 0.0]]), y)
        call(jnp.array([[jnp.nan, 0.0]]), y)
