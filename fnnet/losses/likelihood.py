"""Negative log-likelihoods of distributions whose parameters a network predicts, all constants included."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax.scipy.special import gammaln

from fnnet import checks
from fnnet.losses.targets import count_targets
from fnnet.types import Array


def poisson_negative_log_likelihood(prediction: Array, target: Array) -> Array:
    """Of counts ``y`` under Poisson rates ``exp(z)``: ``ℓ = Σ_k exp(z_k) − y_k z_k + log y_k!``.

    Shapes ``(N, K), (N, K) -> (N,)``; the prediction is the logarithm of the rate, targets are counts of any dtype.
    """
    z, y = count_targets("losses.poisson_negative_log_likelihood", prediction, target)
    log_factorial = jnp.where((y == 0) | (y == 1), 0, gammaln(y + 1))  # gammaln is not quite 0 at 1 and 2
    return (jnp.exp(z) - jnp.where(y == 0, 0, y * z) + log_factorial).sum(-1)


def gaussian_negative_log_likelihood(prediction: Array, target: Array) -> Array:
    """Of real ``y`` under normal distributions: ``ℓ = ½ Σ_k s_k + (y_k − μ_k)² exp(−s_k) + log 2π``.

    Shapes ``(N, 2K), (N, K) -> (N,)``: the prediction's last axis has the means ``μ``, then the logarithms ``s`` of the
    variances. Source: Nix and Weigend 1994, eq. 3.
    """
    mean, log_variance, y = gaussian_parts(prediction, target)
    return 0.5 * (log_variance + squared_score(mean, log_variance, y) + math.log(2 * math.pi)).sum(-1)


def gaussian_parts(prediction: Array, target: Array) -> tuple[Array, Array, Array]:
    """Mean, log-variance and target, checked."""
    place = "losses.gaussian_negative_log_likelihood"
    prediction, y = jnp.asarray(prediction), jnp.asarray(target)
    checks.floating(place, "prediction", prediction)
    checks.floating(place, "target", y)
    outputs = y.shape[-1] if y.ndim else 0
    checks.require(
        y.ndim > 0 and prediction.shape == (*y.shape[:-1], 2 * outputs),
        f"{place}: target has shape {y.shape} but prediction {prediction.shape}; expected the prediction's last axis "
        f"to be twice the target's: the means, then the log-variances",
    )
    return prediction[..., :outputs], prediction[..., outputs:], y.astype(prediction.dtype)


def squared_score(mean: Array, log_variance: Array, y: Array) -> Array:
    """``(y − μ)² exp(−s)`` as the square of ``(y − μ) exp(−s/2)``, 0 where ``y = μ`` however small the variance."""
    d = y - mean
    exact = d == 0
    return jnp.square(jnp.where(exact, 0, d * jnp.exp(-0.5 * jnp.where(exact, 0, log_variance))))
