"""Batch normalization for inference: the moments of a population, computed once and folded into the parameters."""

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
from fnnet.layers.normalization import BatchNorm, Moments, moments
from fnnet.types import Array, Layer, Params

Folded = tuple[Layer, Params]
Before = Callable[[Array], Array]  # a batch of data -> the input that a layer gets for it

# Layers with y = w · x + b for each output feature, the last axis of w, and a field use_bias; add your own here.
LINEAR: set[type] = {Conv, Dense}


def fold_batch_norm(model: Layer, params: Params, x: Any, *, batch_size: int | None = None) -> Folded:
    """``(model, params)`` for inference: every ``BatchNorm`` with the moments of the population ``x``, as constants.

    With ``μ`` and ``σ²`` over all of ``x``, ``BatchNorm`` is ``y = s ⊙ h + t`` with ``s = scale / √(σ² + ε)`` and
    ``t = shift − μ s``. Right after a linear layer of the same ``Sequential``, ``h = w · x + b``, it goes into its
    parameters, ``w s`` and ``b s + t``, and is left out; elsewhere it becomes an ``Affine``. Layer by layer, in the
    deterministic network (``train=False``): the moments of a layer are those of what the folded layers before it give.
    On the whole of ``x`` as one batch the old and the new model compute the same.

    ``x`` is the training data or a fair part of it. With a ``batch_size`` at most so many examples are in memory at a
    time, and each normalization costs a pass over ``x`` through the layers before it; the result is the same. It is a
    pure function, of ``params`` and ``x`` also under ``jax.jit``. It looks into ``Sequential`` and ``Residual``; a
    ``BatchNorm`` inside another layer is refused. Source: Ioffe and Szegedy 2015, "Batch normalization", algorithm 2
    (whose average over batches is here the moments of the population itself).
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
    """Data in batches, whose moments are taken at any layer."""

    def __init__(self, x: Array, batch_size: int) -> None:
        full, left = divmod(len(x), batch_size)
        self.full = x[: full * batch_size].reshape(full, batch_size, *x.shape[1:])
        self.left = x[len(x) - left :]

    def moments(self, before: Before) -> tuple[Array, Array]:
        """Mean and variance of every feature of ``before(x)``.

        The moments of batches of ``n_i`` numbers are combined, ``μ = Σ n_i μ_i / n`` and ``σ² = Σ n_i (σ_i² +
        (μ_i − μ)²) / n``: Chan, Golub and LeVeque 1983, eq. 2.1, for any number of parts.
        """

        def of_batch(batch: Array) -> tuple[Moments, Array]:
            h = before(batch)
            at = moments(h, tuple(range(h.ndim - 1)))
            return jax.tree.map(jnp.ravel, at), jnp.asarray(h.size // h.shape[-1], at.variance.dtype)

        parts = [] if len(self.full) == 0 else [jax.lax.map(of_batch, self.full)]
        if len(self.left):
            parts.append(jax.tree.map(lambda leaf: leaf[None], of_batch(self.left)))
        at, counts = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
        share = (counts / counts.sum())[:, None]
        # As in moments: distances from a center, so that no digits of a large mean are lost.
        center = at.center[0]
        means = (at.center - center) + at.rest
        mean = (share * means).sum(0)
        return center + mean, (share * (at.variance + (means - mean) ** 2)).sum(0)


def folded(layer: Layer, params: Params, population: Population, before: Before) -> Folded:
    """A layer that gets ``before(x)``, without batch normalization."""
    if type(layer) is BatchNorm:
        mean, variance = population.moments(before)
        scale = params["scale"].astype(mean.dtype) * jax.lax.rsqrt(variance + layer.epsilon)
        shift = params["shift"].astype(mean.dtype) - mean * scale
        dtype = params["scale"].dtype
        return Affine(), {"scale": scale.astype(dtype), "shift": shift.astype(dtype)}
    if type(layer) is Sequential:
        return folded_sequential(layer, params, population, before)
    if type(layer) is Residual:
        inner, inner_params = folded(layer.layer, params["layer"], population, before)
        beside, beside_params = folded(layer.beside, params["shortcut"], population, before)
        shortcut = None if layer.shortcut is None else beside
        return Residual(inner, shortcut), {"layer": inner_params, "shortcut": beside_params}
    if holds(layer, BatchNorm):
        raise TypeError(
            f"fold_batch_norm: {layer!r} holds a BatchNorm that is not looked for there; fold the model of Sequential "
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
    """``before`` followed by the given layers."""
    steps = tuple(done)

    def run(batch: Array) -> Array:
        h = before(batch)
        for layer, params in steps:
            h = layer.apply(params, h)
        return h

    return run


def absorbed(layer: Any, params: Params, affine: Params) -> Folded:
    """``s ⊙ (w · x + b) + t = (w s) · x + (b s + t)``."""
    scale, shift = affine["scale"], affine["shift"]
    b = params["b"] * scale + shift if layer.use_bias else shift
    return replace(layer, use_bias=True), params | {"w": params["w"] * scale, "b": b}
