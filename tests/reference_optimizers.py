"""The optimizers as loops in NumPy float64 over the entries, straight from the formulas.

Each is a generator of parameters: it is given the parameters and the gradients ``g₁, g₂, ...`` and yields the
parameters after each update. The learning rate is a function of the step, which counts from 0.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

Rate = Callable[[int], float]
Steps = Iterator[np.ndarray]


def sgd(theta: np.ndarray, gradients: np.ndarray, rate: Rate) -> Steps:
    theta = theta.copy()
    for t, g in enumerate(gradients):
        for i in np.ndindex(theta.shape):
            theta[i] -= rate(t) * g[i]
        yield theta.copy()


def momentum(theta: np.ndarray, gradients: np.ndarray, rate: Rate, beta: float, averaged: bool) -> Steps:
    theta, v = theta.copy(), np.zeros_like(theta)
    for t, g in enumerate(gradients):
        for i in np.ndindex(theta.shape):
            v[i] = beta * v[i] + ((1 - beta) if averaged else 1) * g[i]
            theta[i] -= rate(t) * v[i]
        yield theta.copy()


def adam(
    theta: np.ndarray,
    gradients: np.ndarray,
    rate: Rate,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    bias_correction: bool = True,
) -> Steps:
    theta, m, v = theta.copy(), np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        for i in np.ndindex(theta.shape):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            m_hat = m[i] / (1 - beta1**t) if bias_correction else m[i]
            v_hat = v[i] / (1 - beta2**t) if bias_correction else v[i]
            theta[i] -= rate(t - 1) * m_hat / (math.sqrt(v_hat) + epsilon)
        yield theta.copy()
