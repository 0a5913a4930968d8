"""Losses: known answers and extremes, for the values and for the gradients by hand and by autodiff."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnnet import bind, losses
from fnnet.backprop.losses import loss_gradient

LN2, LN3, LN2PI, INF = np.log(2), np.log(3), np.log(2 * np.pi), np.inf
HUBER2, FOCAL0 = bind(losses.huber, delta=2.0), bind(losses.focal, gamma=0.0)
POISSON, GAUSSIAN = losses.poisson_negative_log_likelihood, losses.gaussian_negative_log_likelihood

# loss, prediction, target, value, gradient
Known = list[tuple[Any, Any, Any, Any, Any]]
CROSS_ENTROPIES: Known = [
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
]

REGRESSION: Known = [
    (losses.squared_error, [[1.0, 5.0]], [[3.0, 4.0]], [2.5], [[-2, 1]]),
    (losses.half_squared_error, [[1.0, 5.0]], [[3.0, 4.0]], [1.25], [[-1, 0.5]]),
    (losses.squared_error, [[3.0]], [[1.0]], [4], [[4]]),
    (losses.half_squared_error, [[3.0]], [[1.0]], [2], [[2]]),
    (losses.absolute_error, [[1.0, 5.0]], [[3.0, 4.0]], [1.5], [[-0.5, 0.5]]),
    (losses.absolute_error, [[2.0, -1.0]], [[2.0, -1.0]], [0], [[0, 0]]),  # at the kink
    (losses.huber, [[0.5]], [[0.0]], [0.125], [[0.5]]),
    (losses.huber, [[3.0, -0.5]], [[0.0, 0.0]], [(2.5 + 0.125) / 2], [[0.5, -0.25]]),
    (losses.huber, [[1.0], [-1.0]], [[0.0], [0.0]], [0.5, 0.5], [[1], [-1]]),  # where the two pieces meet
    (losses.huber, [[2.0]], [[2.0]], [0], [[0]]),
    (HUBER2, [[3.0], [-1.0]], [[0.0], [0.0]], [4, 0.5], [[2], [-1]]),
    (losses.huber, [[1e30], [-1e30]], [[0.0], [0.0]], [1e30, 1e30], [[1], [-1]]),
    (losses.log_cosh, [[LN2, 0.0]], [[0.0, 0.0]], [np.log(1.25) / 2], [[0.3, 0]]),  # cosh ln 2 = 5/4, tanh ln 2 = 3/5
    (losses.log_cosh, [[0.0], [0.0]], [[1e4], [-1e4]], [1e4 - LN2, 1e4 - LN2], [[-1], [1]]),
    (losses.log_cosh, [[1e-3]], [[0.0]], [5e-7], [[1e-3]]),  # half the square
    (losses.cosine, [[1.0, 0.0]], [[0.0, 2.0]], [1], [[0, -1]]),
    (losses.cosine, [[3.0, 4.0]], [[3.0, 4.0]], [0], [[0, 0]]),
    (losses.cosine, [[3.0, 4.0]], [[-6.0, -8.0]], [2], [[0, 0]]),
    (losses.cosine, [[3.0, 4.0]], [[4.0, 3.0]], [0.04], [[-0.224 / 5, 0.168 / 5]]),  # (u · v) u − v with u · v = 24/25
    (losses.cosine, [[0.0, 0.0], [1.0, 2.0]], [[1.0, 2.0], [0.0, 0.0]], [1, 1], [[0, 0], [0, 0]]),
    (losses.cosine, [[3e30, 4e30]], [[4e-30, 3e-30]], [0.04], [[0, 0]]),
]

MARGINS: Known = [
    (losses.hinge, [[0.3]], [[1]], [0.7], [[-1]]),
    (losses.hinge, [[0.5, 2.0]], [[-1, 1]], [1.5], [[1, 0]]),
    (losses.hinge, [[1.0], [-1.0]], [[1.0], [-1.0]], [0, 0], [[0], [0]]),  # at the kink
    (losses.squared_hinge, [[0.3]], [[1]], [0.49], [[-1.4]]),
    (losses.squared_hinge, [[0.5, 2.0]], [[-1, 1]], [2.25], [[3, 0]]),
]

OVER_CLASSES: Known = [
    # p = ½: (1 − p)² log 2, and by the chain rule −¼ (½ + log 2) from ∂p/∂z = p (1 − p)
    (losses.focal, [[0.0, 0.0]], [0], [LN2 / 4], [[-(0.5 + LN2) / 4, (0.5 + LN2) / 4]]),
    (losses.focal, [[1e4, 0.0]], [0], [0], [[0, 0]]),
    (losses.focal, [[1e4, 0.0]], [1], [1e4], [[1, -1]]),
    (FOCAL0, [[0.0, 0.0]], [0], [LN2], [[-0.5, 0.5]]),
    (FOCAL0, [[1e4, 0.0], [1e4, 0.0]], [0, 1], [0, 1e4], [[0, 0], [1, -1]]),
    (losses.kl_divergence, [[0.25, 0.75]], [[0.5, 0.5]], [LN2 / 2 + np.log(2 / 3) / 2], [[-2, -2 / 3]]),
    (losses.kl_divergence, [[0.25, 0.75]], [[0.25, 0.75]], [0], [[-1, -1]]),
    (losses.kl_divergence, [[0.5, 0.5]], [[0.0, 1.0]], [LN2], [[0, -2]]),
    (losses.kl_divergence, [[0.0, 1.0]], [[0.0, 1.0]], [0], [[0, -1]]),
    (losses.kl_divergence, [[0.0, 1.0]], [[1.0, 0.0]], [INF], [[-INF, 0]]),
]

LIKELIHOODS: Known = [
    (POISSON, [[0.0], [0.0]], [[0], [1]], [1, 1], [[1], [0]]),
    (POISSON, [[LN2, 0.0]], [[3, 0]], [2 - 3 * LN2 + np.log(6) + 1], [[-1, 1]]),
    (POISSON, [[-1e4], [-INF]], [[0.0], [0.0]], [0, 0], [[0], [0]]),
    (POISSON, [[3.4e38], [INF], [89.0]], [[3], [3], [0]], [INF, INF, INF], [[INF], [INF], [INF]]),  # y z overflows too
    (GAUSSIAN, [[0.0, 0.0]], [[0.0]], [LN2PI / 2], [[0, 0.5]]),
    (GAUSSIAN, [[0.0, 0.0]], [[1.0]], [0.5 + LN2PI / 2], [[-1, 0]]),
    (GAUSSIAN, [[0.0, 2 * LN2]], [[2.0]], [LN2 + 0.5 + LN2PI / 2], [[-0.5, 0]]),  # standard deviation 2
    (GAUSSIAN, [[1.0, 2.0, 0.0, 0.0]], [[0.0, 2.0]], [0.5 + LN2PI], [[1, 0, 0, 0.5]]),  # means, then log-variances
    (GAUSSIAN, [[3.0, -1e4]], [[3.0]], [-5e3 + LN2PI / 2], [[0, 0.5]]),  # right, and as good as certain
    (GAUSSIAN, [[0.0, -INF], [0.0, INF]], [[1.0], [1.0]], [INF, INF], [[-INF, -INF], [0, 0.5]]),
]

SOFTMAX = losses.softmax_cross_entropy
SMOOTH = bind(losses.cross_entropy, smoothing=0.2)  # of two classes: y becomes (0.9, 0.1)
WEIGHTED = bind(losses.cross_entropy, class_weights=(2.0, 0.5))

OPTIONS: Known = [
    (SMOOTH, [[0.5, 0.5]], [0], [LN2], [[-1.8, -0.2]]),
    (SMOOTH, [[0.5, 0.5]], [[1.0, 0.0]], [LN2], [[-1.8, -0.2]]),
    (SMOOTH, [[0.25, 0.75]], [1], [-0.1 * np.log(0.25) - 0.9 * np.log(0.75)], [[-0.4, -1.2]]),
    (bind(SOFTMAX, smoothing=0.2), [[0.0, 0.0]], [0], [LN2], [[-0.4, 0.4]]),
    (bind(SOFTMAX, smoothing=1.0), [[1.0, 1.0, 1.0]], [0], [LN3], [[0, 0, 0]]),  # the label does not matter
    (WEIGHTED, [[0.5, 0.5], [0.5, 0.5]], [0, 1], [2 * LN2, 0.5 * LN2], [[-4, 0], [0, -1]]),
    (WEIGHTED, [[0.5, 0.5]], [[0.5, 0.5]], [1.25 * LN2], [[-2, -0.5]]),
    (bind(SOFTMAX, class_weights=(2.0, 0.5)), [[0.0, 0.0]], [0], [2 * LN2], [[-1, 1]]),
    (bind(SMOOTH, class_weights=(2.0, 0.5)), [[0.5, 0.5]], [0], [1.85 * LN2], [[-3.6, -0.1]]),
    (bind(losses.focal, class_weights=(4.0, 1.0)), [[0.0, 0.0]], [0], [LN2], [[-(0.5 + LN2), 0.5 + LN2]]),
]

KNOWN = [*REGRESSION, *CROSS_ENTROPIES, *MARGINS, *OVER_CLASSES, *LIKELIHOODS, *OPTIONS]


@pytest.mark.parametrize("loss", list(dict.fromkeys(row[0] for row in KNOWN)), ids=lambda loss: loss.__name__)
def test_known_answers(loss: Any) -> None:
    """By hand and by autodiff; where a formula divides by zero, both give the limit."""
    rows = [(jnp.array(p), jnp.array(y), *expected) for known, p, y, *expected in KNOWN if known == loss]

    @jax.jit
    def run(predictions: list[jax.Array]) -> Any:
        return [
            (loss(p, y), loss_gradient(loss, p, y), jax.grad(lambda p: loss(p, y).sum())(p))  # noqa: B023
            for p, (_, y, *_) in zip(predictions, rows, strict=True)
        ]

    for (p, y, value, gradient), results in zip(rows, run([row[0] for row in rows]), strict=True):
        for result, expected in zip(results, (value, gradient, gradient), strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7, err_msg=f"at {p} and {y}")


def test_focal_loss_against_the_paper() -> None:
    """With γ = 2 a probability of 0.9 counts 100 times less than in cross-entropy (Lin et al. 2017, section 3.2)."""
    z, y = jnp.log(jnp.array([[0.9, 0.1]])), jnp.array([0])
    ratio = losses.softmax_cross_entropy(z, y) / losses.focal(z, y)
    assert float(ratio[0]) == pytest.approx(100, rel=1e-5)


def test_likelihoods_are_of_distributions() -> None:
    """The probabilities of all counts sum to 1, and the density of the normal distribution integrates to 1."""
    counts = jnp.arange(60)[:, None]
    total = jnp.exp(-POISSON(jnp.full((60, 1), np.log(7.5), "float32"), counts)).sum()
    assert float(total) == pytest.approx(1, rel=1e-5)
    y = jnp.linspace(-30, 30, 6001)[:, None]
    parameters = jnp.broadcast_to(jnp.array([1.5, np.log(2.0)], "float32"), (6001, 2))
    assert float(jnp.exp(-GAUSSIAN(parameters, y)).sum() * 0.01) == pytest.approx(1, rel=1e-5)


def test_small_losses_keep_their_digits() -> None:
    """In float32, log(1 + exp(−40)) would round to 0, and the cosine of a small angle to 1."""
    assert float(losses.sigmoid_cross_entropy(jnp.array([[40.0]]), jnp.array([[1]]))[0]) == pytest.approx(np.exp(-40))
    angle = losses.cosine(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1e-5]]))
    assert float(angle[0]) == pytest.approx(0.5e-10, rel=1e-5)
