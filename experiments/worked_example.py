"""Compute every number of the textbook's 2-2-1 sigmoid network: forward pass, loss, backward pass, one update.

The numbers follow the textbook's column convention, where examples are columns and Z = W X + b. Each one is computed
twice: in NumPy by the formula printed next to it, and by fnnet, where examples are rows and w = Wᵀ. The exit status is
1 if the two differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

import fnnet
from experiments.results import console

Vector = np.ndarray[Any, Any]

X, Y = np.array([0.5, 0.8]), np.array([1.0])
W1, B1 = np.array([[0.2, -0.3], [0.4, 0.1]]), np.array([0.1, -0.1])
W2, B2 = np.array([[0.3, -0.2]]), np.array([0.05])


@dataclass(frozen=True)
class Config:
    learning_rate: float = 0.5
    """Learning rate α of the single update."""


@dataclass(frozen=True)
class Line:
    """One number of the example, computed by its formula and by the library."""

    symbol: str
    formula: str
    value: Vector  # by the formula
    fnnet: Vector = field(repr=False)  # by the library

    @property
    def agrees(self) -> bool:
        return bool(np.allclose(self.value, self.fnnet, rtol=1e-12, atol=0))


def run(config: Config) -> int:
    lines = compute(config.learning_rate)
    table = Table("", "formula", "value", "fnnet agrees")
    for line in lines:
        table.add_row(line.symbol, line.formula, shown(line.value), "yes" if line.agrees else "[bold red]NO[/]")
    console.print("X = [0.5, 0.8], y = 1; W1 = [[0.2, −0.3], [0.4, 0.1]], b1 = [0.1, −0.1]", markup=False)
    console.print("W2 = [0.3, −0.2], b2 = 0.05; sigmoid in both layers\n", markup=False, highlight=False)
    console.print(table)
    return 0 if all(line.agrees for line in lines) else 1


def compute(learning_rate: float) -> list[Line]:
    """Return every line of the example in the order of the computation, in float64."""
    with jax.enable_x64(True):
        by_library = dict(library(learning_rate))
    return [Line(symbol, formula, value, by_library[symbol]) for symbol, formula, value in textbook(learning_rate)]


def textbook(learning_rate: float) -> Iterator[tuple[str, str, Vector]]:
    """Yield ``(symbol, formula, value)``, computed by the formulas in NumPy."""
    alpha = learning_rate
    Z1 = W1 @ X + B1
    yield "Z1", "W1 X + b1", Z1
    A1 = 1 / (1 + np.exp(-Z1))
    yield "A1", "σ(Z1)", A1
    Z2 = W2 @ A1 + B2
    yield "Z2", "W2 A1 + b2", Z2
    A2 = 1 / (1 + np.exp(-Z2))
    yield "A2", "σ(Z2)", A2
    yield "L", "½ (A2 − y)²", 0.5 * (A2 - Y) ** 2
    dA2 = A2 - Y
    yield "dA2", "∂L/∂A2 = A2 − y", dA2
    delta2 = dA2 * A2 * (1 - A2)
    yield "δ2", "dA2 ⊙ A2 (1 − A2)", delta2
    dW2 = np.outer(delta2, A1)
    yield "dW2", "δ2 A1ᵀ", dW2
    yield "db2", "δ2", delta2
    dA1 = W2.T @ delta2
    yield "dA1", "W2ᵀ δ2", dA1
    delta1 = dA1 * A1 * (1 - A1)
    yield "δ1", "dA1 ⊙ A1 (1 − A1)", delta1
    dW1 = np.outer(delta1, X)
    yield "dW1", "δ1 Xᵀ", dW1
    yield "db1", "δ1", delta1
    new_W1, new_b1 = W1 - alpha * dW1, B1 - alpha * delta1
    new_W2, new_b2 = W2 - alpha * dW2, B2 - alpha * delta2
    yield "W1'", "W1 − α dW1", new_W1
    yield "b1'", "b1 − α db1", new_b1
    yield "W2'", "W2 − α dW2", new_W2
    yield "b2'", "b2 − α db2", new_b2
    new_A1 = 1 / (1 + np.exp(-(new_W1 @ X + new_b1)))
    new_A2 = 1 / (1 + np.exp(-(new_W2 @ new_A1 + new_b2)))
    yield "L'", "the loss after the update", 0.5 * (new_A2 - Y) ** 2


def library(learning_rate: float) -> Iterator[tuple[str, Vector]]:
    """Yield ``(symbol, value)`` of the same numbers from fnnet, transposed to the textbook's convention."""
    model = fnnet.sequential(fnnet.Dense(2), fnnet.sigmoid, fnnet.Dense(1), fnnet.sigmoid)
    params: Any = (
        {"w": jnp.asarray(W1.T), "b": jnp.asarray(B1)},
        {},
        {"w": jnp.asarray(W2.T), "b": jnp.asarray(B2)},
        {},
    )
    x, y = jnp.asarray(X[None]), jnp.asarray(Y[None])
    cost = fnnet.Cost(model, fnnet.losses.half_squared_error)

    inputs: Any = x
    pullbacks = []
    for symbol, layer, p in zip(("Z1", "A1", "Z2", "A2"), model.layers, params, strict=True):
        inputs, pullback = fnnet.backprop.vjp(layer, p, inputs)
        pullbacks.append(pullback)
        yield symbol, column(inputs)
    value, grads = fnnet.backprop.value_and_grad(cost)(params, (x, y))
    yield "L", column(value)
    delta = fnnet.backprop.LOSS_GRADIENTS[cost.loss](inputs, y)
    yield "dA2", column(delta)
    for symbol, pullback in zip(("δ2", "dA1", "δ1"), reversed(pullbacks), strict=False):
        _, delta = pullback(delta)
        yield symbol, column(delta)

    optimizer = fnnet.optimizers.sgd(learning_rate)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    new = fnnet.apply_updates(params, updates)
    for i, suffix in ((0, "1"), (2, "2")):
        yield f"dW{suffix}", np.asarray(grads[i]["w"].T)
        yield f"db{suffix}", np.asarray(grads[i]["b"])
        yield f"W{suffix}'", np.asarray(new[i]["w"].T)
        yield f"b{suffix}'", np.asarray(new[i]["b"])
    yield "L'", column(cost(new, (x, y)))


def column(rows: Any) -> Vector:
    """Return one example's row as a flat array, as the textbook writes its column."""
    return np.asarray(rows).reshape(-1)


def shown(value: Vector) -> str:
    """Return the number, vector or matrix as text with six digits."""
    flat = value[0] if value.ndim == 2 and len(value) == 1 else value
    numbers = flat if flat.size > 1 else flat.reshape(-1)[0]
    text = np.array2string(
        numbers, precision=6, suppress_small=True, separator=", ", formatter={"float": "{:.6g}".format}
    )
    return text.replace("\n", "").replace("-", "−").replace(",  ", ", ")
