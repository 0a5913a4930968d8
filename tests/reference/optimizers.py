"""The optimizers as loops in NumPy float64, written from the formulas of the papers.

Each of them is a generator for one tensor: it takes the parameters ``theta``, the gradients ``g₁, g₂, ...`` and the
rate, and yields the parameters after each update. Every hyper-parameter is a number or a function of the step, which
counts from 0. ``weight`` says whether the tensor is a weight and not a bias.

Differences that cancel (``1 − βᵗ``, and ``ρ_t`` of radam) are computed with exact fractions and rounded once.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

Number = float | Callable[[int], float]
Steps = Iterator[np.ndarray]
Tensor = np.ndarray


def at(value: Number, step: int) -> float:
    return value(step) if callable(value) else value


def exact(value: Number, step: int) -> Fraction:
    return Fraction(float(at(value, step)))


def length(x: Tensor) -> float:
    return float(np.sqrt(np.sum(x**2)))


def sgd(theta: Tensor, gradients: Tensor, rate: Number, *, weight: bool) -> Steps:
    for step, g in enumerate(gradients):
        theta = theta - at(rate, step) * g
        yield theta


def momentum(
    theta: Tensor, gradients: Tensor, rate: Number, *, weight: bool, momentum: Number = 0.9, averaged: bool = True
) -> Steps:
    v = np.zeros_like(theta)
    for step, g in enumerate(gradients):
        b = at(momentum, step)
        v = b * v + ((1 - b) * g if averaged else g)
        theta = theta - at(rate, step) * v
        yield theta


def nesterov(theta: Tensor, gradients: Tensor, rate: Number, *, weight: bool, momentum: Number = 0.9) -> Steps:
    v = np.zeros_like(theta)
    for step, g in enumerate(gradients):
        b = at(momentum, step)
        v = b * v + g
        theta = theta - at(rate, step) * (g + b * v)
        yield theta


def adagrad(
    theta: Tensor,
    gradients: Tensor,
    rate: Number,
    *,
    weight: bool,
    epsilon: Number = 1e-10,
    initial_accumulator: float = 0.0,
) -> Steps:
    total = np.full_like(theta, initial_accumulator)
    for step, g in enumerate(gradients):
        total = total + g**2
        theta = theta - at(rate, step) * g / (np.sqrt(total) + at(epsilon, step))
        yield theta


def adadelta(
    theta: Tensor, gradients: Tensor, rate: Number, *, weight: bool, decay: Number = 0.9, epsilon: Number = 1e-6
) -> Steps:
    v, u = np.zeros_like(theta), np.zeros_like(theta)
    for step, g in enumerate(gradients):
        r, e = at(decay, step), at(epsilon, step)
        v = r * v + (1 - r) * g**2
        delta = np.sqrt(u + e) / np.sqrt(v + e) * g
        u = r * u + (1 - r) * delta**2
        theta = theta - at(rate, step) * delta
        yield theta


def rmsprop(
    theta: Tensor,
    gradients: Tensor,
    rate: Number,
    *,
    weight: bool,
    decay: Number = 0.9,
    epsilon: Number = 1e-8,
    momentum: Number = 0.0,
    centered: bool = False,
) -> Steps:
    v, m, velocity = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
    for step, g in enumerate(gradients):
        r = at(decay, step)
        v = r * v + (1 - r) * g**2
        m = r * m + (1 - r) * g
        variance = v - m**2 if centered else v
        velocity = at(momentum, step) * velocity + g / (np.sqrt(variance) + at(epsilon, step))
        theta = theta - at(rate, step) * velocity
        yield theta


def adam_directions(
    theta: Tensor, gradients: Tensor, beta1: Number, beta2: Number, epsilon: Number, bias_correction: bool = True
) -> Iterator[tuple[int, Tensor]]:
    """Yield each step with its ``m̂ / (√v̂ + ε)``."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    product1, product2 = Fraction(1), Fraction(1)
    for step, g in enumerate(gradients):
        b1, b2 = at(beta1, step), at(beta2, step)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        product1, product2 = product1 * exact(beta1, step), product2 * exact(beta2, step)
        m_hat = m / float(1 - product1) if bias_correction else m
        v_hat = v / float(1 - product2) if bias_correction else v
        yield step, m_hat / (np.sqrt(v_hat) + at(epsilon, step))


def adam(
    theta: Tensor,
    gradients: Tensor,
    rate: Number,
    *,
    weight: bool,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    epsilon: Number = 1e-8,
    bias_correction: bool = True,
) -> Steps:
    for step, direction in adam_directions(theta, gradients, beta1, beta2, epsilon, bias_correction):
        theta = theta - at(rate, step) * direction
        yield theta


def adamw(
    theta: Tensor,
    gradients: Tensor,
    rate: Number,
    *,
    weight: bool,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    epsilon: Number = 1e-8,
    weight_decay: Number = 0.01,
) -> Steps:
    for step, direction in adam_directions(theta, gradients, beta1, beta2, epsilon):
        decay = at(weight_decay, step) if weight else 0.0
        theta = theta - at(rate, step) * (direction + decay * theta)
        yield theta


def lamb(
    theta: Tensor,
    gradients: Tensor,
    rate: Number,
    *,
    weight: bool,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    epsilon: Number = 1e-6,
    weight_decay: Number = 0.0,
) -> Steps:
    for step, direction in adam_directions(theta, gradients, beta1, beta2, epsilon):
        u, ratio = direction, 1.0
        if weight:
            u = direction + at(weight_decay, step) * theta
            ratio = length(theta) / length(u)
        theta = theta - at(rate, step) * ratio * u
        yield theta


def amsgrad(
    theta: Tensor,
    gradients: Tensor,
    rate: Number,
    *,
    weight: bool,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    epsilon: Number = 1e-8,
) -> Steps:
    m, v, largest = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
    product1, product2 = Fraction(1), Fraction(1)
    for step, g in enumerate(gradients):
        b1, b2 = at(beta1, step), at(beta2, step)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        largest = np.maximum(largest, v)
        product1, product2 = product1 * exact(beta1, step), product2 * exact(beta2, step)
        denominator = np.sqrt(largest / float(1 - product2))
        theta = theta - at(rate, step) * (m / float(1 - product1)) / (denominator + at(epsilon, step))
        yield theta


def nadam(
    theta: Tensor,
    gradients: Tensor,
    rate: Number,
    *,
    weight: bool,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    epsilon: Number = 1e-8,
) -> Steps:
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    product1, product2 = Fraction(1), Fraction(1)
    for step, g in enumerate(gradients):
        now, following, b2 = at(beta1, step), at(beta1, step + 1), at(beta2, step)
        m = now * m + (1 - now) * g
        v = b2 * v + (1 - b2) * g**2
        product1, product2 = product1 * exact(beta1, step), product2 * exact(beta2, step)
        product_following = product1 * exact(beta1, step + 1)
        m_bar = following * m / float(1 - product_following) + (1 - now) * g / float(1 - product1)
        v_hat = v / float(1 - product2)
        theta = theta - at(rate, step) * m_bar / (np.sqrt(v_hat) + at(epsilon, step))
        yield theta


def adamax(
    theta: Tensor,
    gradients: Tensor,
    rate: Number,
    *,
    weight: bool,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    epsilon: Number = 1e-8,
) -> Steps:
    m, u, product = np.zeros_like(theta), np.zeros_like(theta), Fraction(1)
    for step, g in enumerate(gradients):
        b1 = at(beta1, step)
        m = b1 * m + (1 - b1) * g
        u = np.maximum(at(beta2, step) * u, np.abs(g) + at(epsilon, step))
        product = product * exact(beta1, step)
        theta = theta - at(rate, step) / float(1 - product) * m / u
        yield theta


def radam(
    theta: Tensor,
    gradients: Tensor,
    rate: Number,
    *,
    weight: bool,
    beta1: Number = 0.9,
    beta2: float = 0.999,
    epsilon: Number = 1e-8,
    threshold: float = 5.0,
) -> Steps:
    m, v, product, power = np.zeros_like(theta), np.zeros_like(theta), Fraction(1), Fraction(1)
    rho_end = 2 / (1 - Fraction(beta2)) - 1
    for step, g in enumerate(gradients):
        b1 = at(beta1, step)
        m = b1 * m + (1 - b1) * g
        v = beta2 * v + (1 - beta2) * g**2
        product, power = product * exact(beta1, step), power * Fraction(beta2)
        m_hat = m / float(1 - product)
        rho = rho_end - 2 * (step + 1) * power / (1 - power)
        if rho > threshold:
            r = np.sqrt(float((rho - 4) * (rho - 2) * rho_end / ((rho_end - 4) * (rho_end - 2) * rho)))
            v_hat = v / float(1 - power)
            theta = theta - at(rate, step) * r * m_hat / (np.sqrt(v_hat) + at(epsilon, step))
        else:
            theta = theta - at(rate, step) * m_hat
        yield theta
