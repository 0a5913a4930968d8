"""Self-attention, embeddings and positions as loops over examples, heads, steps and features.

The loops take real or complex numbers, so that ``recurrent.complex_step_gradient`` gives derivatives that nobody
derived by hand. Imaginary parts are tiny, so that the largest value is that with the largest real part.
"""

import math
from typing import Any

import numpy as np

Params = dict[str, np.ndarray]


def multi_head_attention(
    params: Params, x: np.ndarray, mask: np.ndarray, heads: int, *, causal: bool, rotary: bool
) -> np.ndarray:
    """Return ``y (N, T, D)``, with 0 at the steps that do not exist."""
    examples, steps, features = x.shape
    width = params["w_q"].shape[1] // heads
    y = np.zeros((examples, steps, features), complex)
    for n in range(examples):
        side_by_side = np.zeros((steps, heads * width), complex)
        for h in range(heads):
            columns = range(h * width, (h + 1) * width)
            q, k, v = (projected(params, x[n], mask[n], name, columns) for name in "qkv")
            if rotary:
                q, k = rotated(q), rotated(k)
            for i in range(steps):
                seen = [j for j in range(steps) if mask[n, j] and (j <= i or not causal)]
                side_by_side[i, h * width : (h + 1) * width] = weighted_mean(q[i], k, v, seen)
        for i in range(steps):
            if mask[n, i]:
                for d in range(features):
                    y[n, i, d] = sum(side_by_side[i, c] * params["w_o"][c, d] for c in range(heads * width))
                    y[n, i, d] += params["b_o"][d] if "b_o" in params else 0
    return y


def projected(params: Params, x: np.ndarray, mask: np.ndarray, name: str, columns: range) -> np.ndarray:
    w, b = params[f"w_{name}"], params.get(f"b_{name}")
    result = np.zeros((len(x), len(columns)), complex)
    for t in range(len(x)):
        for c, column in enumerate(columns):
            result[t, c] = sum(x[t, d] * w[d, column] for d in range(x.shape[1])) if mask[t] else 0
            result[t, c] += 0 if b is None else b[column]
    return result


def weighted_mean(q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: list[int]) -> Any:
    if not seen:
        return np.zeros(v.shape[1])
    scores = [sum(q[d] * k[j, d] for d in range(len(q))) / math.sqrt(len(q)) for j in seen]
    largest = max(np.real(scores))
    weights = [np.exp(s - largest) for s in scores]
    return sum(w * v[j] for w, j in zip(weights, seen, strict=True)) / sum(weights)


def rotated(a: np.ndarray) -> np.ndarray:
    """Multiply features ``i`` and ``i + d/2``, as one complex number, by ``exp(i t ω)``, in real arithmetic."""
    result, half = np.zeros_like(a), a.shape[1] // 2
    for t in range(len(a)):
        for i in range(half):
            angle = t * 10000.0 ** (-2 * i / a.shape[1])
            result[t, i] = a[t, i] * math.cos(angle) - a[t, i + half] * math.sin(angle)
            result[t, i + half] = a[t, i] * math.sin(angle) + a[t, i + half] * math.cos(angle)
    return result


def sinusoidal_positions(steps: int, features: int) -> np.ndarray:
    table = np.zeros((steps, features))
    for t in range(steps):
        for d in range(features):
            angle = t / 10000.0 ** (2 * (d // 2) / features)
            table[t, d] = math.cos(angle) if d % 2 else math.sin(angle)
    return table


def embedding_gradient(entries: int, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    table = np.zeros((entries, dy.shape[-1]))
    for place in np.ndindex(x.shape):
        table[x[place]] += dy[place]
    return table
