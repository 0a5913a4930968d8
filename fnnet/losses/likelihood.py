"""Negative log-likelihoods of distributions whose parameters a network predicts, with all constants."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from fnnet import checks
from fnnet.losses.products import product
from fnnet.losses.targets import arrays, count_targets
from fnnet.types import Array


def poisson_negative_log_likelihood(prediction: Array, target: Array) -> Array:
    """Return ``ℓ = Σ_k exp(z_k) − y_k z_k + log y_k!`` for counts ``y`` with Poisson rates ``exp(z)``.

    Shapes ``(N, K), (N, K) -> (N,)``. The prediction is the logarithm of the rate; targets are counts of any dtype.
    """
    z, y = count_targets("losses.poisson_negative_log_likelihood", prediction, target)
    rate, linear = jnp.exp(z), product(y, z)
    # Where the rate overflows, it alone decides: y z may overflow too, and ∞ − ∞ would be NaN.
    linear = jnp.where(jnp.isinf(rate) & jnp.isinf(linear), 0, linear)
    return (rate - linear + log_factorial(y)).sum(-1)


def log_factorial(y: Array) -> Array:
    """Return ``log y! = log Γ(y + 1)``, which is exactly 0 at 0 and 1, where that of ``gammaln`` is not quite 0."""
    value = gammaln(y + 1)
    return value - jnp.where((y == 0) | (y == 1), jax.lax.stop_gradient(value), 0)


def gaussian_negative_log_likelihood(prediction: Array, target: Array) -> Array:
    """Return ``ℓ = ½ Σ_k s_k + (y_k − μ_k)² exp(−s_k) + log 2π`` for real ``y`` with normal distributions.

    Shapes ``(N, 2K), (N, K) -> (N,)``. The last axis of the prediction holds the means ``μ`` and after them the
    logarithms ``s`` of the variances. Source: Nix and Weigend 1994, eq. 3.
    """
    mean, log_variance, y = gaussian_parameters(prediction, target)
    score = squared_score(mean, log_variance, y)
    # Where the score overflows, it alone decides: for s = −∞ the sum would be ∞ − ∞.
    return 0.5 * (jnp.where(jnp.isinf(score), 0, log_variance) + score + math.log(2 * math.pi)).sum(-1)


def gaussian_parameters(prediction: Array, target: Array) -> tuple[Array, Array, Array]:
    """Return the mean, the log-variance and the target, after checking them."""
    place = "losses.gaussian_negative_log_likelihood"
    prediction, y = arrays(place, prediction, target)
    checks.floating(place, "prediction", prediction)
    checks.floating(place, "target", y)
    outputs = y.shape[-1] if y.ndim else 0
    checks.require(
        outputs > 0 and prediction.shape == (*y.shape[:-1], 2 * outputs),
        f"{place}: target has shape {y.shape} but prediction {prediction.shape}; expected the prediction's last axis "
        f"to be twice the target's: the means, then the log-variances",
    )
    return prediction[..., :outputs], prediction[..., outputs:], y.astype(prediction.dtype)


def squared_score(mean: Array, log_variance: Array, y: Array) -> Array:
    """Return ``(y − μ)² exp(−s)`` as the square of ``(y − μ) exp(−s/2)``, and 0 where ``y = μ``."""
    d = y - mean
    exact = d == 0
    return jnp.square(jnp.where(exact, 0, d * jnp.exp(-0.5 * jnp.where(exact, 0, log_variance))))
