"""The contenders of ``curvature``: fnnet, PyHessian, and the published algorithms in plain PyTorch.

Each finds three numbers of the Hessian of the same cost, with the error that it states.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

import fnnet
from fnnet.inspect.curvature import eigenvalues, hvp, spectral_density, trace

TOLERANCE, ITERATIONS = 1e-3, 100  # of power iteration, as PyHessian has them
Found = tuple[float, float]  # a number and its stated error


class Numbers(NamedTuple):
    """How a contender finds the three numbers, each by a function of the number of the round."""

    top: Callable[[int], Found]
    """The sum of the largest eigenvalues."""
    trace: Callable[[int], Found]
    moment: Callable[[int], Found]
    """The mean of the squares of all eigenvalues, from the spectral density."""


class Sizes(NamedTuple):
    """How much every contender computes."""

    largest: int
    products: int
    steps: int
    vectors: int


def by_fnnet(cost: fnnet.Cost, params: Any, batch: Any, sizes: Sizes) -> Numbers:
    """Return fnnet's functions, each a compiled program."""

    def compiled(function: Callable[..., Any]) -> Callable[[int], Any]:
        program = jax.jit(lambda params, batch, key: function(partial(hvp, cost, params, batch), params, key=key))
        return lambda i: jax.block_until_ready(program(params, batch, jax.random.key(i)))

    top = compiled(partial(eigenvalues, k=sizes.largest))
    of_trace = compiled(partial(trace, samples=sizes.products))
    density = compiled(partial(spectral_density, steps=sizes.steps, samples=sizes.vectors))

    def of_top(i: int) -> Found:
        found = top(i).largest
        return float(found.values.sum()), float(found.residuals.sum())

    def of_moment(i: int) -> Found:
        found = density(i)
        return mean_and_error((found.weights * found.nodes**2).sum(1))

    return Numbers(of_top, lambda i: tuple(map(float, of_trace(i))), of_moment)  # type: ignore[return-value, arg-type]


def mean_and_error(samples: Any) -> Found:
    samples = np.asarray(samples, float)
    return float(samples.mean()), float(samples.std(ddof=1) / len(samples) ** 0.5)


def torch_network(params: Any, batch: Any) -> tuple[Any, Any, Any]:
    """Return the same network and the same data in PyTorch, ``(model, x, y)``."""
    modules: list[Any] = []
    for layer in params:
        if layer:
            w, b = (torch.tensor(np.asarray(layer[name])) for name in ("w", "b"))
            modules.append(torch.nn.Linear(*w.shape))
            modules[-1].weight.data, modules[-1].bias.data = w.T.contiguous(), b
        else:
            modules.append(torch.nn.Tanh())
    x, y = (torch.tensor(np.asarray(a)) for a in batch)
    return torch.nn.Sequential(*modules), x, y.long()


def by_pyhessian(hessian: Any, params: Any, batch: Any, sizes: Sizes) -> Numbers:
    """Return PyHessian's functions; ``hessian`` is its class.

    Its last release calls ``torch.eig``, which PyTorch has removed; it is given ``torch.linalg.eigh`` in its place.
    """

    def eig(matrix: Any, eigenvectors: bool) -> tuple[Any, Any]:
        values, vectors = torch.linalg.eigh(matrix)
        return values[:, None], vectors

    vars(torch).setdefault("eig", eig)
    model, x, y = torch_network(params, batch)

    def peer(i: int) -> Any:
        torch.manual_seed(i)
        model.zero_grad()
        return hessian(model, torch.nn.CrossEntropyLoss(), data=(x, y), cuda=False)

    def top(i: int) -> Found:
        values = sum(peer(i).eigenvalues(maxIter=ITERATIONS, tol=TOLERANCE, top_n=sizes.largest)[0])
        return float(values), TOLERANCE * float(values)

    def moment(i: int) -> Found:
        nodes, weights = map(np.asarray, peer(i).density(iter=sizes.steps, n_v=sizes.vectors))
        return mean_and_error((weights * nodes**2).sum(1))

    return Numbers(top, lambda i: mean_and_error(peer(i).trace(maxIter=sizes.products, tol=0.0)), moment)


class Hessian:
    """The Hessian of a cost in PyTorch, as products with vectors: the derivative of the gradient's graph."""

    def __init__(self, model: Any, x: Any, y: Any) -> None:
        self.parameters = list(model.parameters())
        cost = torch.nn.functional.cross_entropy(model(x), y)
        self.gradients = torch.autograd.grad(cost, self.parameters, create_graph=True)
        self.size = sum(p.numel() for p in self.parameters)

    def __matmul__(self, v: Any) -> Any:
        pieces = torch.split(v, [p.numel() for p in self.parameters])
        shaped = [piece.reshape(p.shape) for piece, p in zip(pieces, self.parameters, strict=True)]
        product = torch.autograd.grad(self.gradients, self.parameters, shaped, retain_graph=True)
        return torch.cat([each.reshape(-1) for each in product])

    def largest(self, count: int) -> list[float]:
        """Return the largest eigenvalues by power iteration, each on what is orthogonal to those before it."""
        values, vectors = list[float](), torch.zeros(0, self.size)
        for _ in range(count):
            v, value, before = torch.randn(self.size), 0.0, float("inf")
            for _ in range(ITERATIONS):
                v = v - vectors.T @ (vectors @ v)
                v = v / v.norm()
                image = self @ v
                value, before, v = float(v @ image), value, image
                if abs(value - before) < TOLERANCE * (abs(before) + 1e-6):
                    break
            values.append(value)
            vectors = torch.cat([vectors, (v / v.norm())[None]])
        return values

    def signs(self) -> Any:
        return torch.randint(0, 2, (self.size,)) * 2.0 - 1

    def traces(self, samples: int) -> list[float]:
        """Return ``gᵀ H g`` for random vectors of ±1 (Hutchinson)."""
        return [float(g @ (self @ g)) for g in (self.signs() for _ in range(samples))]

    def quadrature(self, steps: int) -> tuple[Any, Any]:
        """Return the nodes and weights of Lanczos' method from one random vector, with full orthogonalization."""
        q, basis, matrix = self.signs() / self.size**0.5, torch.zeros(steps, self.size), torch.zeros(steps, steps)
        for i in range(steps):
            basis[i] = q
            w = self @ q
            matrix[i, i] = q @ w
            for _ in range(2):
                w = w - basis[: i + 1].T @ (basis[: i + 1] @ w)
            if i + 1 < steps:
                matrix[i, i + 1] = matrix[i + 1, i] = w.norm()
                q = w / w.norm()
        nodes, vectors = torch.linalg.eigh(matrix)
        return nodes, vectors[0] ** 2


def by_pytorch(params: Any, batch: Any, sizes: Sizes) -> Numbers:
    """Return the same algorithms as PyHessian's in plain PyTorch, from the published formulas.

    Sources: Pearlmutter 1994 (products); Hutchinson 1990 (trace); Ubaru, Chen and Saad 2017 (density).
    """
    network = torch_network(params, batch)

    def peer(i: int) -> Hessian:
        torch.manual_seed(i)
        return Hessian(*network)

    def top(i: int) -> Found:
        values = sum(peer(i).largest(sizes.largest))
        return values, TOLERANCE * values

    def moment(i: int) -> Found:
        hessian = peer(i)
        each = (hessian.quadrature(sizes.steps) for _ in range(sizes.vectors))
        return mean_and_error([float(weights @ nodes**2) for nodes, weights in each])

    return Numbers(top, lambda i: mean_and_error(peer(i).traces(sizes.products)), moment)
