"""References of the algorithms whose steps depend on a whole tensor or on a sign; see ``optimizers``."""

import numpy as np

from tests.reference.optimizers import Number, Steps, Tensor, at, length
from tests.reference.optimizers import adam as adam_steps


def lion(
    theta: Tensor,
    gradients: Tensor,
    rate: Number,
    *,
    weight: bool,
    beta1: Number = 0.9,
    beta2: Number = 0.99,
    weight_decay: Number = 0.0,
) -> Steps:
    m = np.zeros_like(theta)
    for step, g in enumerate(gradients):
        b1, b2 = at(beta1, step), at(beta2, step)
        decay = at(weight_decay, step) if weight else 0.0
        theta = theta - at(rate, step) * (np.sign(b1 * m + (1 - b1) * g) + decay * theta)
        m = b2 * m + (1 - b2) * g
        yield theta


def lars(
    theta: Tensor,
    gradients: Tensor,
    rate: Number,
    *,
    weight: bool,
    momentum: Number = 0.9,
    trust: Number = 0.001,
    weight_decay: Number = 0.0,
) -> Steps:
    v = np.zeros_like(theta)
    for step, g in enumerate(gradients):
        local, decay = 1.0, 0.0
        if weight:
            decay = at(weight_decay, step)
            local = at(trust, step) * length(theta) / (length(g) + decay * length(theta))
        v = at(momentum, step) * v + at(rate, step) * local * (g + decay * theta)
        theta = theta - v
        yield theta


def orthogonalized(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Return the quintic iteration with Jordan's coefficients, from the right: ``(X Xᵀ) X = X (Xᵀ X)``."""
    x = matrix / length(matrix)
    for _ in range(iterations):
        gram = x.T @ x
        x = 3.4445 * x + x @ (-4.7750 * gram + 2.0315 * gram @ gram)
    return x


def muon(
    theta: Tensor,
    gradients: Tensor,
    rate: Number,
    *,
    weight: bool,
    momentum: Number = 0.95,
    nesterov: bool = True,
    weight_decay: Number = 0.0,
    iterations: int = 5,
) -> Steps:
    """Tensors that are not weights take the steps of Adam with its default options."""
    if not weight:
        yield from adam_steps(theta, gradients, rate, weight=weight)
        return
    inputs, outputs = int(np.prod(theta.shape[:-1])), theta.shape[-1]
    v = np.zeros_like(theta)
    for step, g in enumerate(gradients):
        b = at(momentum, step)
        v = b * v + g
        u = g + b * v if nesterov else v
        direction = orthogonalized(u.reshape(inputs, outputs), iterations).reshape(theta.shape)
        scale = np.sqrt(max(1.0, outputs / inputs))
        theta = theta - at(rate, step) * (scale * direction + at(weight_decay, step) * theta)
        yield theta
