"""Batch normalization for inference, with mean and variance of a population folded into the parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from fnnet import checks
from fnnet.layers.affine import Affine
from fnnet.layers.combinators import Residual, Sequential
from fnnet.layers.convolution import Conv
from fnnet.layers.dense import Dense
from fnnet.layers.nesting import holds
from fnnet.layers.normalization import BatchNorm, MeanVariance, mean_variance
from fnnet.types import Array, Layer, Params

Folded = tuple[Layer, Params]
Before = Callable[[Array], Array]  # a batch of data -> the input that a layer gets for it

# Layers with y = w · x + b for each output feature, the last axis of w, and a field use_bias; add your own here.
LINEAR: set[type] = {Conv, Dense}


def fold_batch_norm(model: Layer, params: Params, x: Any, *, batch_size: int | None = None) -> Folded:
    """Return the model and parameters for inference, in which every ``BatchNorm`` has constants for mean and variance.

    With mean ``μ`` and variance ``σ²`` over the population ``x``, ``BatchNorm`` is ``y = s ⊙ h + t``, where
    ``s = scale / √(σ² + ε)`` and ``t = shift − μ s``. Right after a linear layer ``h = w · x + b`` of the same
    ``Sequential`` it is left out, and the parameters of that layer become ``w s`` and ``b s + t``. Elsewhere it becomes
    an ``Affine``. Layers are folded in the order of the deterministic network (``train=False``), each with the outputs
    of the folded layers before it. On all of ``x`` as one batch the old and the new model compute the same numbers.

    ``x`` is the training data, or a representative sample of it. With a ``batch_size``, at most that number of examples
    is in memory at once, and each normalization costs a pass over ``x`` through the layers before it; the result is the
    same. The function is pure and works under ``jax.jit`` for ``params`` and ``x``. It folds inside ``Sequential`` and
    ``Residual``; a ``BatchNorm`` inside another layer raises. Source: Ioffe and Szegedy 2015, "Batch normalization",
    algorithm 2, which averages over batches in place of the population.
    """
    if batch_size is not None:
        checks.positive_integer("fold_batch_norm", "batch_size", batch_size)
    x = jnp.asarray(x)
    checks.require(
        x.ndim > 0 and len(x) > 0,
        f"fold_batch_norm: x has shape {x.shape}; expected the training data, examples on the first axis",
    )
    return folded(model, params, Population(x, batch_size or len(x)), lambda batch: batch)


class Population:
    """Data in batches, whose mean and variance can be computed at any layer."""

    def __init__(self, x: Array, batch_size: int) -> None:
        full, left = divmod(len(x), batch_size)
        self.full = x[: full * batch_size].reshape(full, batch_size, *x.shape[1:])
        self.left = x[len(x) - left :]

    def moments(self, before: Before) -> tuple[Array, Array]:
        """Return mean and variance of every feature of ``before(x)``.

        Those of batches of ``n_i`` numbers are combined by ``μ = Σ n_i μ_i / n`` and ``σ² = Σ n_i (σ_i² + (μ_i − μ)²)
        / n`` (Chan, Golub and LeVeque 1983, eq. 2.1, for any number of batches).
        """

        def of_batch(batch: Array) -> tuple[MeanVariance, Array]:
            h = before(batch)
            at = mean_variance(h, tuple(range(h.ndim - 1)))
            return jax.tree.map(jnp.ravel, at), jnp.asarray(h.size // h.shape[-1], at.variance.dtype)

        each = [] if len(self.full) == 0 else [jax.lax.map(of_batch, self.full)]
        if len(self.left):
            each.append(jax.tree.map(lambda leaf: leaf[None], of_batch(self.left)))
        at, counts = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *each)
        weight = (counts / counts.sum())[:, None]
        # As in mean_variance, distances from a center: a large mean would cost digits.
        center = at.center[0]
        means = (at.center - center) + at.rest
        mean = (weight * means).sum(0)
        return center + mean, (weight * (at.variance + (means - mean) ** 2)).sum(0)


def folded(layer: Layer, params: Params, population: Population, before: Before) -> Folded:
    """Return the layer whose input is ``before(x)`` without batch normalization, and its parameters."""
    if type(layer) is BatchNorm:
        mean, variance = population.moments(before)
        scale = params["scale"].astype(mean.dtype) * jax.lax.rsqrt(variance + layer.epsilon)
        shift = params["shift"].astype(mean.dtype) - mean * scale
        dtype = params["scale"].dtype
        return Affine(), {"scale": scale.astype(dtype), "shift": shift.astype(dtype)}
    if type(layer) is Sequential:
        return folded_sequential(layer, params, population, before)
    if type(layer) is Residual:
        each = {name: folded(child, params[name], population, before) for name, child in layer.children()}
        shortcut = None if layer.shortcut is None else each["shortcut"][0]
        return Residual(each["layer"][0], shortcut), {name: new_params for name, (_, new_params) in each.items()}
    if holds(layer, BatchNorm):
        raise TypeError(
            f"fold_batch_norm: {layer!r} holds a BatchNorm where it is not looked for; fold the model of Sequential "
            f"and Residual first, then build {type(layer).__name__} around it"
        )
    return layer, params


def folded_sequential(layer: Sequential, params: Params, population: Population, before: Before) -> Folded:
    layer.check(params)
    done: list[Folded] = []
    for inner, p in zip(layer.layers, params, strict=True):
        new, q = folded(inner, p, population, through(done, before))
        if type(inner) is BatchNorm and done and type(done[-1][0]) in LINEAR:
            done[-1] = absorbed(*done[-1], q)
        else:
            done.append((new, q))
    return Sequential(tuple(new for new, _ in done)), tuple(q for _, q in done)


def through(done: list[Folded], before: Before) -> Before:
    """Return ``before`` followed by the layers."""
    steps = tuple(done)

    def run(batch: Array) -> Array:
        h = before(batch)
        for layer, params in steps:
            h = layer.apply(params, h)
        return h

    return run


def absorbed(layer: Any, params: Params, affine: Params) -> Folded:
    """Return the linear layer with an affine map in it: ``s ⊙ (w · x + b) + t = (w s) · x + (b s + t)``."""
    scale, shift = affine["scale"], affine["shift"]
    b = params["b"] * scale + shift if layer.use_bias else shift
    return replace(layer, use_bias=True), params | {"w": params["w"] * scale, "b": b}
