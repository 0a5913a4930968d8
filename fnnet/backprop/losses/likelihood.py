"""Gradients of the negative log-likelihoods."""

from __future__ import annotations

import jax.numpy as jnp

from fnnet.losses.likelihood import gaussian_parameters, squared_score
from fnnet.losses.targets import count_targets
from fnnet.types import Array


def poisson_negative_log_likelihood(prediction: Array, target: Array) -> Array:
    """ℓ = Σ_k exp(z_k) − y_k z_k + log y_k!  ⇒  ∂ℓ/∂z_k = exp(z_k) − y_k."""
    z, y = count_targets("losses.poisson_negative_log_likelihood", prediction, target)
    return jnp.exp(z) - y


def gaussian_negative_log_likelihood(prediction: Array, target: Array) -> Array:
    """ℓ = ½ Σ_k s_k + (y_k − μ_k)² exp(−s_k) + log 2π  ⇒  ∂ℓ/∂μ_k = (μ_k − y_k) exp(−s_k),
    ∂ℓ/∂s_k = ½ (1 − (y_k − μ_k)² exp(−s_k)).
    """
    mean, log_variance, y = gaussian_parameters(prediction, target)
    exact = mean == y
    # The factor exp(−s) is applied as two factors exp(−s/2): it may overflow where its product with μ − y does not.
    half = jnp.exp(-0.5 * jnp.where(exact, 0, log_variance))
    d_mean = jnp.where(exact, 0, (mean - y) * half * half)
    d_log_variance = 0.5 * (1 - squared_score(mean, log_variance, y))
    return jnp.concatenate([d_mean, d_log_variance], -1)
