"""Recurrent layers as loops over examples, steps and neurons, for real or complex numbers.

All functions are analytic, so that a derivative along a direction is ``Im f(x + i s d) / s`` with no subtraction and no
formula of its own (Squire and Trapp 1998): a reference that nobody derived by hand.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Params = dict[str, np.ndarray]
Step = Callable[[Params, Any, np.ndarray], tuple[Any, np.ndarray]]


def sigmoid(z: complex) -> complex:
    return 1 / (1 + np.exp(-z))


def summed(params: Params, h: np.ndarray, x: np.ndarray, gate: int) -> np.ndarray:
    """``x w_x + h w_h + b`` of one gate, neuron by neuron."""
    width = len(h)
    z = np.zeros(width, complex)
    for k in range(width):
        column = gate * width + k
        z[k] = params["b"][column]
        z[k] += sum(x[d] * params["w_x"][d, column] for d in range(len(x)))
        z[k] += sum(h[j] * params["w_h"][j, column] for j in range(width))
    return z


def rnn(params: Params, h: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    h = np.tanh(summed(params, h, x, 0))
    return h, h


def gru(params: Params, h: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r, u = sigmoid(summed(params, h, x, 0)), sigmoid(summed(params, h, x, 1))
    inputs = summed(params, np.zeros_like(h), x, 2)
    width = len(h)
    n = np.zeros(width, complex)
    for k in range(width):
        column = params["w_h"][:, 2 * width + k]
        if "b_h" in params:  # the reset gate after the product
            n[k] = np.tanh(inputs[k] + r[k] * (sum(h[j] * column[j] for j in range(width)) + params["b_h"][k]))
        else:
            n[k] = np.tanh(inputs[k] + sum(r[j] * h[j] * column[j] for j in range(width)))
    h = u * h + (1 - u) * n
    return h, h


def lstm(params: Params, carry: tuple[np.ndarray, np.ndarray], x: np.ndarray) -> tuple[Any, np.ndarray]:
    h, c = carry
    i, f, o = (sigmoid(summed(params, h, x, gate)) for gate in (0, 1, 3))
    c = f * c + i * np.tanh(summed(params, h, x, 2))
    h = o * np.tanh(c)
    return (h, c), h


STEPS: dict[str, Step] = {"RNNCell": rnn, "GRUCell": gru, "LSTMCell": lstm}


def scan(
    cell: str, params: Params, x: np.ndarray, carry: Any, mask: np.ndarray, reverse: bool
) -> tuple[np.ndarray, np.ndarray, Any]:
    """All outputs, the last ones and the carries, example by example."""
    examples, steps, _ = x.shape
    width = params["w_h"].shape[0]
    ys, last, carries = np.zeros((examples, steps, width), complex), np.zeros((examples, width), complex), []
    for n in range(examples):
        state = tuple(c[n] for c in carry) if isinstance(carry, tuple) else carry[n]
        for t in reversed(range(steps)) if reverse else range(steps):
            if mask[n, t]:
                state, ys[n, t] = STEPS[cell](params, state, x[n, t])
                last[n] = ys[n, t]
        carries.append(state)
    after = tuple(map(np.stack, zip(*carries, strict=True))) if isinstance(carry, tuple) else np.stack(carries)
    return ys, last, after


def complex_step_gradient(
    function: Callable[[list[np.ndarray]], complex], arrays: list[np.ndarray]
) -> list[np.ndarray]:
    """The gradient of a real function of several arrays, entry by entry."""
    gradients = []
    for i, array in enumerate(arrays):
        gradient = np.zeros(array.shape)
        for place in np.ndindex(array.shape):
            moved = [a.astype(complex) for a in arrays]
            moved[i][place] += 1e-30j
            gradient[place] = np.imag(function(moved)) / 1e-30
        gradients.append(gradient)
    return gradients
