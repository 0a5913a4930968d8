"""Gradients of many narrow networks at once: an engine for ``fnnet.sweep`` and other uses of ``vmap`` on CPU.

Under ``vmap`` autodiff makes a batched product of ``dw = xᵀ δ`` whose first factor is transposed. XLA on CPU has no
kernel for it and calls Eigen once for each network; it has one where ``x`` is transposed beforehand. Products of few
terms, such as those with two inputs, are sums in the loop that uses them.

Measured as microseconds per step of 32 networks together, autodiff / this, Adam, 2 cores, jax 0.10.2:
Intel Xeon at 2.5 GHz, Cascade Lake, AVX-512: 2-32-16-2, batch 16: 650 / 351; 16-32-16-2, batch 16: 458 / 335;
2-64-64-2, batch 32: 1773 / 1429; 784-30-2, batch 10: 5212 / 4500; with ``XLA_FLAGS=--xla_cpu_max_isa=AVX2``:
426 / 271, 763 / 571, 1881 / 1827 and 4939 / 3972. AMD EPYC with AVX-512: 32 products 16 × 32 × 16 took 28 / 8.

Try without it from jax 0.11 on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from fnnet.configuration import configuration
from fnnet.cost import Cost
from fnnet.layers import Dense
from fnnet.types import Array, Params

NARROW = 2**15  # entries of a layer's inputs: as many as stay in a core's cache while they are transposed
THIN = 4  # terms of a product that XLA adds faster in the loop that uses it than by a kernel


def value_and_grad(cost: Cost) -> Callable[..., Any]:
    """Return ``jax.value_and_grad(cost)`` for the small products of many networks: the same numbers up to rounding."""
    return jax.value_and_grad(replace(cost, model=narrowed(cost.model)))


def narrowed(layer: Any) -> Any:
    """Return the layer with a ``Narrow`` in place of every ``Dense``, also in the layers and tuples inside it."""
    if type(layer) is Dense:
        return Narrow(**{field.name: getattr(layer, field.name) for field in fields(layer)})
    if isinstance(layer, tuple):
        inner = [narrowed(each) for each in layer]
        return layer if all(a is b for a, b in zip(inner, layer, strict=True)) else tuple(inner)
    if is_dataclass(layer) and not isinstance(layer, type):
        parts = {field.name: getattr(layer, field.name) for field in fields(layer) if field.init}
        changed = {name: new for name, old in parts.items() if (new := narrowed(old)) is not old}
        return replace(layer, **changed) if changed else layer
    return layer


@configuration
class Narrow(Dense):
    """``Dense`` with another way to compute the same derivative."""

    def apply(self, params: Params, x: Any, *, key: Array | None = None, train: bool = False) -> Array:
        if x.ndim != 2 or x.size > NARROW:
            return super().apply(params, x)
        jax.eval_shape(super().apply, params, x)  # for its checks
        return affine(x, params["w"], params["b"] if self.use_bias else None)


@jax.custom_vjp
def affine(x: Array, w: Array, b: Array | None) -> Array:
    """Compute ``y = x w + b``."""
    y = thin(x, w)
    return y if b is None else y + b


def forward(x: Array, w: Array, b: Array | None) -> tuple[Array, tuple[Array, Array, Array | None]]:
    return affine(x, w, b), (x, w, b)


def backward(residuals: tuple[Array, Array, Array | None], dy: Array) -> tuple[Array, Array, Array | None]:
    """``y = x w + b  ⇒  dx = δ wᵀ,  dw = xᵀ δ,  db = 1ᵀ δ``. On CPU ``[x, 1]ᵀ δ`` is one product.

    The barrier keeps XLA from undoing the transposition. A sum over the rows of ``δ`` is added in another order for
    many networks than for one; the product is not.
    """
    x, w, b = residuals

    def together(x: Array, dy: Array) -> tuple[Array, Array]:
        columns = jnp.concatenate([x.T, jnp.ones((1, len(x)), x.dtype)])
        both = jax.lax.optimization_barrier(columns) @ dy
        return both[:-1], both[-1]

    def weights_alone(x: Array, dy: Array) -> tuple[Array, None]:
        return jax.lax.optimization_barrier(x.T) @ dy, None

    def elsewhere(x: Array, dy: Array) -> tuple[Array, Array | None]:
        return x.T @ dy, None if b is None else dy.sum(axis=0)

    on_cpu = weights_alone if b is None else together
    dw, db = jax.lax.platform_dependent(x, dy, cpu=on_cpu, default=elsewhere)
    return thin(dy, w.T), dw, db


affine.defvjp(forward, backward)


def thin(a: Array, b: Array) -> Array:
    """Compute ``a b``; on CPU, if ``a`` has few columns, as the sum over them of ``a[:, k] b[k]``, one by one."""
    if not 0 < len(b) <= THIN:
        return a @ b

    def columns(a: Array, b: Array) -> Array:
        return sum((a[:, k : k + 1] * b[k] for k in range(1, len(b))), a[:, :1] * b[0])

    return jax.lax.platform_dependent(a, b, cpu=columns, default=lambda a, b: a @ b)
